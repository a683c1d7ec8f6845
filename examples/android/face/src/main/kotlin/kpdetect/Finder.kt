package kpdetect

import kotlin.math.atan2
import kotlin.math.cos
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sin

/** A face in its own upright frame, in pixels; `roll` is in radians, positive if the head leans clockwise. */
data class Oriented(val x: Double, val y: Double, val width: Double, val height: Double, val roll: Double) {
    /** The axis-aligned box: the tight box of a mean face's outline in this place. */
    val box: Box get() {
        val (cos, sin) = cos(roll) to sin(roll)
        return Box.of(OUTLINE.map { Point(x + cos * it.x * width - sin * it.y * height, y + sin * it.x * width + cos * it.y * height) })
    }

    /** The box after the face is turned upright about its centre. */
    val upright get() = Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    private companion object {
        val HALF = listOf(
            0.26 to -0.5, 0.34 to -0.48, 0.4 to -0.43, 0.5 to -0.32, 0.5 to -0.19, 0.48 to -0.05, 0.45 to 0.08,
            0.4 to 0.21, 0.32 to 0.32, 0.23 to 0.41, 0.12 to 0.48, 0.0 to 0.5,
        )
        val OUTLINE = HALF.map { (x, y) -> Point(x, y) } + HALF.dropLast(1).map { (x, y) -> Point(-x, y) }
    }
}

/** A face that the finder found. */
data class Detection(val face: Oriented, val score: Double, val box: Box = face.box)

/**
 * The constants and the decoding of the face finder, as in `kpdetect.detection.finder`.
 *
 * The file for a phone has a fixed square input (`finder_256.tflite`, `finder_480.tflite`, `finder_768.tflite`). The
 * photograph is scaled into it, with smaller copies in the rest of the square.
 */
class Finder(
    val side: Int,
    private val cell: Int = 8,
    private val sizeUnit: Double = 32.0,
    private val outputUnit: Double = 8.0,
    private val minScore: Double = 0.15,
) {
    /** A copy of the photograph in the square: where it lies, and its pixels per pixel of the photograph. */
    data class Level(val x: Int, val y: Int, val width: Int, val height: Int, val scale: Double)

    /** Scales that fit: the first copy fills most of the square, the second a part of what is left. */
    fun levels(width: Int, height: Int): List<Level> {
        val longer = max(width, height)
        val wide = width >= height
        val first = level(width, height, 0, 0, min(side.toDouble() / longer, (side - GAP) / (min(width, height) + longer / RATIO)))
        val smaller = first.scale / RATIO
        if (longer * first.scale <= SMALL) return listOf(first)
        return listOf(first, level(width, height, if (wide) 0 else first.width + GAP, if (wide) first.height + GAP else 0, smaller))
    }

    private fun level(width: Int, height: Int, x: Int, y: Int, scale: Double) =
        Level(x, y, max((width * scale).toInt(), 1), max((height * scale).toInt(), 1), scale)

    /** The network's input, side x side grey levels: each level resampled with its antialiasing. */
    fun picture(photograph: Grey, levels: List<Level>): FloatArray {
        val square = FloatArray(side * side) { 128f }
        for (level in levels) {
            val shift = 0.5 * level.scale - 0.5
            val scaled = warpCrop(photograph, Matrix(level.scale, 0.0, shift, 0.0, level.scale, shift), level.width, level.height)
            for (row in 0 until level.height) {
                scaled.copyInto(square, (level.y + row) * side + level.x, row * level.width, (row + 1) * level.width)
            }
        }
        return square
    }

    /**
     * Converts the output to faces of the picture.
     *
     * @param output rows x columns x 28: for each quarter of a cell the logit, and the centre's x and y, the logarithms
     *     of width and height, and the sine and cosine of the roll, these six multiplied by `outputUnit`
     */
    fun decode(output: FloatArray, columns: Int): List<Detection> {
        val rows = output.size / (VALUES * 4 * columns)
        val found = mutableListOf<Detection>()
        for (row in 0 until 2 * rows) for (column in 0 until 2 * columns) {
            val at = ((row / 2 * columns + column / 2) * 4 + 2 * (row and 1) + (column and 1)) * VALUES
            val score = 1 / (1 + exp(-output[at].toDouble().coerceIn(-50.0, 50.0)))
            if (score < minScore) continue
            fun value(index: Int) = output[at + index] / outputUnit
            val face = Oriented(
                (column + 0.5 + value(1)) * cell - 0.5, (row + 0.5 + value(2)) * cell - 0.5,
                exp(value(3).coerceIn(-3.0, 3.0)) * sizeUnit, exp(value(4).coerceIn(-3.0, 3.0)) * sizeUnit,
                atan2(value(5), value(6)),
            )
            found += Detection(face, score)
        }
        return found
    }

    /** Faces of the picture in the photograph's pixels, by the level nearest to each centre. */
    fun toPhotograph(found: List<Detection>, levels: List<Level>): List<Detection> = found.map { (face, score) ->
        val level = levels.minBy {
            max(max(it.x - face.x, face.x - it.x - it.width), 0.0) + max(max(it.y - face.y, face.y - it.y - it.height), 0.0)
        }
        val place = Oriented(
            (face.x + 0.5 - level.x) / level.scale - 0.5, (face.y + 0.5 - level.y) / level.scale - 0.5,
            face.width / level.scale, face.height / level.scale, face.roll,
        )
        Detection(place, score)
    }

    /** Averages the predictions of neighbouring cells, weighted by their scores; faces by falling score. */
    fun fuse(found: List<Detection>): List<Detection> {
        var free = found.sortedByDescending { it.score }
        val fused = mutableListOf<Detection>()
        while (free.isNotEmpty()) {
            val first = free.first()
            val (near, others) = free.partition { it === first || it.box.intersectionOverUnion(first.box) >= FUSED }
            free = others
            val sum = near.sumOf { it.score }
            fun mean(value: (Oriented) -> Double) = near.sumOf { it.score * value(it.face) } / sum
            val roll = atan2(mean { sin(it.roll) }, mean { cos(it.roll) })
            fused += Detection(Oriented(mean { it.x }, mean { it.y }, mean { it.width }, mean { it.height }, roll), first.score)
        }
        return fused
    }

    private companion object {
        const val VALUES = 7
        const val FUSED = 0.35 // intersection over union from which two predictions are one face's
        const val RATIO = 4.0 // of the first copy's scale to the second one's
        const val GAP = 16 // pixels between the copies
        const val SMALL = 128 // pixels: the network finds faces that nearly fill a picture of this side
    }
}

/** Keeps the best of several faces in one place, as `kpdetect.detection.non_maximum_suppression`; indices by falling score. */
fun nonMaximumSuppression(boxes: List<Box>, scores: List<Double>, maxOverlap: Double = 0.4): List<Int> {
    val kept = mutableListOf<Int>()
    for (index in scores.indices.sortedByDescending { scores[it] }) {
        if (kept.all { boxes[index].intersectionOverUnion(boxes[it]) < maxOverlap }) kept += index
    }
    return kept
}

/** The score of a face, 0 to 1, by `face_score` of spec.json, for models without an output `score`. */
fun faceScore(uncertainty: FloatArray, middle: Double, slope: Double): Double {
    val exponent = slope * (ln(max(uncertainty.average(), 1e-9)) - middle)
    return 1 / (1 + exp(exponent.coerceIn(-50.0, 50.0)))
}
