package kpdetect

import kotlin.math.ceil
import kotlin.math.exp
import kotlin.math.floor
import kotlin.math.hypot
import kotlin.math.max
import kotlin.math.min
import kotlin.math.roundToInt
import kotlin.math.sqrt

/** A grey picture, row by row, 0 to 255. */
class Grey(val width: Int, val height: Int, val pixels: FloatArray) {
    companion object {
        /** The grey of an Android picture, 0xAARRGGBB, rounded as OpenCV rounds. */
        fun ofArgb(width: Int, height: Int, argb: IntArray) = Grey(width, height, FloatArray(width * height) {
            val p = argb[it]
            ((9798 * (p shr 16 and 255) + 19235 * (p shr 8 and 255) + 3735 * (p and 255) + 16384) shr 15).toFloat()
        })
    }
}

private const val REACH = 8 // blocks beyond the crop that the blur and the interpolation use

/**
 * Resamples a crop, as `kpdetect.core.images.warp_crop` does: bilinear, antialiased when it shrinks, black outside.
 *
 * @param matrix photograph to crop
 * @return height x width grey levels, 0 to 255
 */
fun warpCrop(picture: Grey, matrix: Matrix, width: Int, height: Int): FloatArray {
    val back = matrix.inverse()
    val shrinkX = max(hypot(back.a, back.b), 1.0)
    val shrinkY = max(hypot(back.d, back.e), 1.0)
    // Blocks take half of the shrinking; the blur after them removes the aliasing of their mean.
    val blockX = max(floor(shrinkX / 2 + 1e-6).toInt(), 1)
    val blockY = max(floor(shrinkY / 2 + 1e-6).toInt(), 1)
    val corners = listOf(0, width - 1).flatMap { x -> listOf(0, height - 1).map { y -> back(Point(x.toDouble(), y.toDouble())) } }
    val (firstX, columns) = span(corners.map { it.x }, blockX, picture.width) ?: return FloatArray(width * height)
    val (firstY, rows) = span(corners.map { it.y }, blockY, picture.height) ?: return FloatArray(width * height)
    val means = blockMeans(picture, firstX, firstY, columns, rows, blockX, blockY)
    val blurred = blur(means, shrinkX / blockX, shrinkY / blockY)
    val toPicture = Matrix(
        blockX.toDouble(), 0.0, firstX + (blockX - 1) / 2.0, 0.0, blockY.toDouble(), firstY + (blockY - 1) / 2.0,
    )
    return sample(blurred, matrix.after(toPicture).inverse(), width, height)
}

/** The first pixel and the number of blocks along one axis; null if the crop does not meet the picture. */
private fun span(seen: List<Double>, block: Int, extent: Int): Pair<Int, Int>? {
    val reach = REACH * block
    val low = max(floor(seen.min()).toInt() - reach, -reach)
    val high = min(ceil(seen.max()).toInt() + 1 + reach, extent + reach)
    val first = Math.floorDiv(low, block) * block // blocks are aligned to the picture's corner
    return if (high <= 0 || first >= extent) null else first to (high - first + block - 1) / block
}

private fun blockMeans(picture: Grey, x0: Int, y0: Int, columns: Int, rows: Int, blockX: Int, blockY: Int): Grey {
    val sums = FloatArray(columns * rows)
    for (y in max(y0, 0) until min(y0 + rows * blockY, picture.height)) {
        val row = (y - y0) / blockY * columns
        for (x in max(x0, 0) until min(x0 + columns * blockX, picture.width)) {
            sums[row + (x - x0) / blockX] += picture.pixels[y * picture.width + x]
        }
    }
    val size = blockX * blockY
    if (size > 1) for (i in sums.indices) sums[i] = (sums[i] / size).roundToInt().toFloat()
    return Grey(columns, rows, sums)
}

/** Blurs for the remaining shrinking: from half a pixel of blur to half a pixel of the crop. */
private fun blur(picture: Grey, shrinkX: Double, shrinkY: Double): Grey {
    val sigmaX = 0.5 * sqrt(max(shrinkX * shrinkX - 1, 0.0))
    val sigmaY = 0.5 * sqrt(max(shrinkY * shrinkY - 1, 0.0))
    if (max(sigmaX, sigmaY) < 0.1) return picture
    val (w, h) = picture.width to picture.height
    val across = blurLines(picture.pixels, gaussian(sigmaX), w, 1, h, w)
    return Grey(w, h, blurLines(across, gaussian(sigmaY), h, w, w, 1))
}

/** Weights of a Gaussian from its centre outwards, to four sigma. */
private fun gaussian(sigma: Double): DoubleArray {
    val half = ((8 * sigma + 1).roundToInt()) / 2
    val weights = DoubleArray(half + 1) { if (it == 0) 1.0 else exp(-(it * it) / (2 * sigma * sigma)) }
    val sum = 2 * weights.sum() - weights[0]
    return DoubleArray(half + 1) { weights[it] / sum }
}

private fun blurLines(pixels: FloatArray, weights: DoubleArray, length: Int, stride: Int, lines: Int, lineStride: Int): FloatArray {
    val blurred = FloatArray(pixels.size)
    for (line in 0 until lines) {
        for (at in 0 until length) {
            val start = line * lineStride
            var sum = weights[0] * pixels[start + at * stride]
            for (i in 1 until weights.size) {
                sum += weights[i] * (pixels[start + mirrored(at - i, length) * stride] + pixels[start + mirrored(at + i, length) * stride])
            }
            blurred[start + at * stride] = sum.toFloat()
        }
    }
    return blurred
}

/** Reflects a position at the first and last pixels into 0 until length. */
private fun mirrored(at: Int, length: Int): Int {
    if (length == 1) return 0
    val inside = Math.floorMod(at, 2 * (length - 1))
    return if (inside < length) inside else 2 * (length - 1) - inside
}

/** Interpolates at positions that are rounded to 1/32 pixel, as OpenCV does. */
private fun sample(picture: Grey, crop: Matrix, width: Int, height: Int): FloatArray {
    fun at(x: Int, y: Int) = if (x in 0 until picture.width && y in 0 until picture.height) picture.pixels[y * picture.width + x] else 0f
    return FloatArray(width * height) {
        val (u, v) = it % width to it / width
        val x = (Math.round((crop.b * v + crop.c) * 1024) + 16 + Math.round(crop.a * u * 1024)).toInt() shr 5
        val y = (Math.round((crop.e * v + crop.f) * 1024) + 16 + Math.round(crop.d * u * 1024)).toInt() shr 5
        val (right, low) = (x and 31) / 32f to (y and 31) / 32f
        val above = (1 - right) * at(x shr 5, y shr 5) + right * at((x shr 5) + 1, y shr 5)
        val below = (1 - right) * at(x shr 5, (y shr 5) + 1) + right * at((x shr 5) + 1, (y shr 5) + 1)
        ((1 - low) * above + low * below).roundToInt().toFloat()
    }
}
