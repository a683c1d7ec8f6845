package kpdetect

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.atan2
import kotlin.math.cos

/** A found face that leans by more than this, in degrees, is also tried as an upright one. */
const val CERTAIN_ROLL_DEG = 20.0

/** A face of a lower score may be predicted in a wrong rotation. */
const val CERTAIN_SCORE = 0.98

/** The lowest score of a face that only another rotation finds. */
const val RETRY_SCORE = 0.95

/** Where other faces are found, only detections of this score are tried in other rotations. */
const val LIKELY_DETECTION = 0.35

private const val SAME_PLACE = 0.3 // intersection over union from which two boxes are in one place
private const val MOST_TURNED = 20
private const val NESTED = 0.35

/** The direction across a face of 68 points: from eye to eye, plus from the eyes to the mouth, turned by 90 degrees. */
fun acrossFace(points: List<Point>): Point {
    val (right, left) = points[36] to points[45] // the outer eye corners
    val mouth = points.subList(48, 68)
    val beside = Point(
        mouth.map { it.y }.average() - (right.y + left.y) / 2, (right.x + left.x) / 2 - mouth.map { it.x }.average(),
    )
    val (x, y) = left.x - right.x to left.y - right.y
    val sign = if (x * beside.x + y * beside.y < 0) -1 else 1 // the eyes of a profile may have changed sides
    return Point(sign * x + beside.x, sign * y + beside.y)
}

/** The oriented box of a face of 68 points; its rotation is 0 up to `CERTAIN_ROLL_DEG`. */
fun orientedBox(points: List<Point>): Oriented {
    val across = acrossFace(points)
    val roll = atan2(across.y, across.x).let { if (abs(it) > CERTAIN_ROLL_DEG * PI / 180) it else 0.0 }
    val turn = CropRule(1, 1, 1.0).matrix(Box(-0.5, -0.5, 0.5, 0.5), roll) // a rotation
    val box = Box.of(points.map { turn(it) })
    val center = turn.inverse()(Point((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
    return Oriented(center.x, center.y, box.width, box.height, roll)
}

/** The detections, and those that lean a second time as upright: the finder's rotation of small faces may be wrong. */
fun withUpright(found: List<Detection>) = found +
    found.filter { cos(it.face.roll) < cos(CERTAIN_ROLL_DEG * PI / 180) }.map { Detection(it.face.copy(roll = 0.0), it.score) }

/**
 * Detections without a certain face, turned by 90, 180 and 270 degrees: the finder's rotation may be wrong.
 *
 * @param faces the boxes and scores of the faces that were found in `found`
 */
fun turnedByQuarters(found: List<Detection>, faces: List<Pair<Box, Double>>): List<Detection> {
    val doubtful = found.filter { one ->
        val here = faces.filter { (box, _) -> box.intersectionOverUnion(one.box) >= SAME_PLACE }
        here.all { (_, score) -> score < CERTAIN_SCORE } && (one.score >= LIKELY_DETECTION || here.isNotEmpty() || faces.isEmpty())
    }
    val best = nonMaximumSuppression(doubtful.map { it.box }, doubtful.map { it.score }, SAME_PLACE).take(MOST_TURNED)
    return (1..3).flatMap { quarters ->
        best.map { doubtful[it] }.map { (face, score) -> Detection(face.copy(roll = face.roll + quarters * PI / 2), score) }
    }
}

/** Drops boxes that share more than a part of their area, or of the other's, with one of a higher score. */
fun withoutContained(boxes: List<Box>, scores: List<Double>, mostContained: Double = NESTED): List<Int> {
    val kept = mutableListOf<Int>()
    for (index in scores.indices.sortedByDescending { scores[it] }) {
        val box = boxes[index]
        if (kept.all { box.common(boxes[it]) <= mostContained * minOf(box.area, boxes[it].area) }) kept += index
    }
    return kept
}
