package kpdetect

import kotlin.math.PI
import kotlin.math.hypot
import kotlin.math.max

/**
 * Adaptive low-pass smoothing of keypoints (Casiez, Roussel and Vogel, CHI 2012), as in `kpdetect.tracking.smoothing`:
 * points at rest do not tremble, and moving ones do not lag.
 *
 * @param beta increase of the cut-off in Hz per speed of one face side a second
 */
class OneEuroFilter(private val minCutoffHz: Double = 1.0, private val beta: Double = 30.0, private val speedCutoffHz: Double = 1.0) {
    private var points: List<Point>? = null
    private var speed: List<Point> = emptyList()
    private var time = 0.0

    /** @param side the longer side of the face's box, so that near and far faces are smoothed alike */
    fun next(new: List<Point>, timeS: Double, side: Double): List<Point> {
        val before = points
        val step = max(timeS - time, 1e-6)
        time = timeS
        if (before == null) {
            speed = new.map { Point(0.0, 0.0) }
            return new.also { points = it }
        }
        val reach = step * max(side, 1.0)
        speed = new.indices.map { i ->
            val velocity = Point((new[i].x - before[i].x) / reach, (new[i].y - before[i].y) / reach)
            towards(speed[i], velocity, share(speedCutoffHz, step))
        }
        return new.indices.map { i ->
            towards(before[i], new[i], share(minCutoffHz + beta * hypot(speed[i].x, speed[i].y), step))
        }.also { points = it }
    }

    private fun towards(from: Point, to: Point, part: Double) =
        Point(from.x + part * (to.x - from.x), from.y + part * (to.y - from.y))

    private fun share(cutoffHz: Double, step: Double): Double {
        val turn = 2 * PI * cutoffHz * step
        return turn / (turn + 1)
    }
}
