package kpdetect

import kotlin.math.cos
import kotlin.math.hypot
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sin

/** A point in pixels; the centre of a pixel has integer coordinates. */
data class Point(val x: Double, val y: Double)

/** (x0, y0, x1, y1) in pixels. */
data class Box(val x0: Double, val y0: Double, val x1: Double, val y1: Double) {
    val width get() = x1 - x0
    val height get() = y1 - y0
    val area get() = width * height

    /** The area of the intersection with another box. */
    fun common(other: Box) =
        max(min(x1, other.x1) - max(x0, other.x0), 0.0) * max(min(y1, other.y1) - max(y0, other.y0), 0.0)

    fun intersectionOverUnion(other: Box) = common(other) / max(area + other.area - common(other), 1e-12)

    companion object {
        /** The tight box of points. */
        fun of(points: List<Point>) = Box(points.minOf { it.x }, points.minOf { it.y }, points.maxOf { it.x }, points.maxOf { it.y })
    }
}

/** The first two rows of an affine matrix, from source pixels to target pixels. */
data class Matrix(val a: Double, val b: Double, val c: Double, val d: Double, val e: Double, val f: Double) {
    operator fun invoke(p: Point) = Point(a * p.x + b * p.y + c, d * p.x + e * p.y + f)

    /** This matrix after another one. */
    fun after(first: Matrix): Matrix {
        val (x, y) = this(Point(first.c, first.f))
        return Matrix(
            a * first.a + b * first.d, a * first.b + b * first.e, x,
            d * first.a + e * first.d, d * first.b + e * first.e, y,
        )
    }

    fun inverse(): Matrix {
        val determinant = a * e - b * d
        require(determinant != 0.0) { "expected a matrix with an inverse, received $this" }
        val (p, q) = e / determinant to -b / determinant
        val (r, s) = -d / determinant to a / determinant
        return Matrix(p, q, -(p * c + q * f), r, s, -(r * c + s * f))
    }
}

/** How a face box becomes the model's crop: `crop` of spec.json. */
data class CropRule(val width: Int = 160, val height: Int = 160, val margin: Double = 1.2) {
    /** Photograph to crop: centred on the box of the upright face, which leans by `roll` radians clockwise. */
    fun matrix(box: Box, roll: Double = 0.0): Matrix {
        require(box.width > 0 && box.height > 0) { "expected a box with an area, received $box" }
        val scale = 1 / (margin * max(box.width / width, box.height / height))
        val (x, y) = (box.x0 + box.x1) / 2 to (box.y0 + box.y1) / 2
        val (cos, sin) = scale * cos(roll) to scale * sin(roll)
        return Matrix(cos, sin, width / 2.0 - 0.5 - cos * x - sin * y, -sin, cos, height / 2.0 - 0.5 + sin * x - cos * y)
    }

    /** Photograph to an upright crop around known points; `across` becomes the crop's x axis. */
    fun upright(points: List<Point>, across: Point): Matrix {
        val length = hypot(across.x, across.y)
        require(length > 0) { "expected a direction with a length" }
        val turn = Matrix(across.x / length, across.y / length, 0.0, -across.y / length, across.x / length, 0.0)
        return matrix(Box.of(points.map { turn(it) })).after(turn)
    }
}
