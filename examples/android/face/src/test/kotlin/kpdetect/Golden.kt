package kpdetect

import java.io.File
import kotlin.math.PI
import kotlin.math.abs

/** Compares this module with the numbers that Python wrote (`kpdetect export --golden`, or tools/golden.py). */
object Golden {
    fun check(json: String): String {
        val golden = Json(json).value() as Map<*, *>
        val picture = golden["picture"] as Map<*, *>
        val grey = formulaPicture(picture.int("width"), picture.int("height"))
        var greatest = 0.0
        for (crop in golden.maps("crops")) {
            val side = crop.int("side")
            val rule = CropRule(side, side, crop.double("margin"))
            val matrix = if ("box" in crop) rule.matrix(crop.box("box")) else rule.upright(crop.points("points"), crop.point("across"))
            val (a, b, c, d, e) = crop.doubles("matrix")
            near(listOf(a, b, c, d, e, crop.doubles("matrix")[5]), matrix.run { listOf(this.a, this.b, this.c, this.d, this.e, f) }, 1e-5, "matrix")
            greatest = maxOf(greatest, near(crop.doubles("grey"), warpCrop(grey, matrix, side, side).map { it.toDouble() }, 2.0, "crop"))
        }
        for (cells in golden.maps("cells").filter { it.int("values") == 7 && "oriented" in it }) {
            val detector = golden["detector"] as Map<*, *>
            val finder = Finder(256, detector.int("cell"), detector.double("size_unit"), detector.double("output_unit"), cells.double("min_score"))
            val found = finder.decode(cells.doubles("output").map { it.toFloat() }.toFloatArray(), cells.int("columns"))
            val numbers = found.flatMap { it.face.numbers() }
            near(cells.numbers("oriented"), numbers, 2e-3, "oriented boxes")
            near(cells.numbers("boxes"), found.flatMap { listOf(it.box.x0, it.box.y0, it.box.x1, it.box.y1) }, 2e-3, "boxes")
        }
        val suppression = golden["suppression"] as Map<*, *>
        val boxes = suppression.numbers("boxes").chunked(4) { Box(it[0], it[1], it[2], it[3]) }
        val kept = nonMaximumSuppression(boxes, suppression.doubles("scores"))
        check(kept == suppression.doubles("kept").map { it.toInt() }) { "suppression: received $kept" }
        val apart = withoutContained(boxes, suppression.doubles("scores"))
        check(apart == suppression.doubles("apart").map { it.toInt() }) { "contained boxes: received $apart" }
        for (face in golden.maps("leaning")) {
            near(face.doubles("oriented"), orientedBox(face.points("keypoints")).numbers(), 2e-3, "rotation of a face")
        }
        for (case in golden.maps("turned")) {
            val rows = case.numbers("oriented").chunked(5) { Oriented(it[0], it[1], it[2], it[3], it[4] * PI / 180) }
            val found = rows.zip(case.doubles("scores")) { face, one -> Detection(face, one) }
            val faces = listOfNotNull(case["face"] as Map<*, *>?).map { Box.of(it.points("keypoints")) to it.double("score") }
            near(case.numbers("turned"), turnedByQuarters(found, faces).flatMap { it.face.numbers() }, 2e-3, "other rotations")
        }
        val filter = OneEuroFilter()
        for (frame in (golden["one_euro"] as Map<*, *>).maps("frames")) {
            val smoothed = filter.next(frame.points("points"), frame.double("time_s"), frame.double("side"))
            near(frame.numbers("smoothed"), smoothed.flatMap { listOf(it.x, it.y) }, 1e-3, "One Euro filter")
        }
        val score = golden["face_score"] as Map<*, *>
        val rule = score["rule"] as Map<*, *>
        val scores = (score["uncertainty"] as List<*>).map { row ->
            faceScore((row as List<*>).map { (it as Double).toFloat() }.toFloatArray(), rule.double("middle"), rule.double("slope"))
        }
        near(score.doubles("scores"), scores, 1e-4, "face score")
        return "golden numbers: crops within $greatest grey levels"
    }

    private fun Oriented.numbers() = listOf(x, y, width, height, roll * 180 / PI)

    private fun formulaPicture(width: Int, height: Int) = Grey.ofArgb(width, height, IntArray(width * height) {
        val (x, y) = it % width to it / width
        (((7 * x + 2 * y) % 256) shl 16) or (((x * y / 16) % 256) shl 8) or ((3 * x + 5 * y + 101) % 256)
    })

    private fun near(expected: List<Double>, received: List<Double>, tolerance: Double, what: String): Double {
        check(expected.size == received.size) { "$what: expected ${expected.size} numbers, received ${received.size}" }
        val far = expected.indices.maxOfOrNull { abs(expected[it] - received[it]) } ?: 0.0
        check(far <= tolerance) { "$what: expected a difference of at most $tolerance, received $far" }
        return far
    }

    private fun Map<*, *>.double(name: String) = this[name] as Double
    private fun Map<*, *>.int(name: String) = double(name).toInt()
    private fun Map<*, *>.doubles(name: String) = (this[name] as List<*>).map { it as Double }
    private fun Map<*, *>.numbers(name: String) = (this[name] as List<*>).flatMap { row -> (row as List<*>).map { it as Double } }
    private fun Map<*, *>.maps(name: String) = (this[name] as List<*>).map { it as Map<*, *> }
    private fun Map<*, *>.points(name: String) = numbers(name).chunked(2) { Point(it[0], it[1]) }
    private fun Map<*, *>.point(name: String) = doubles(name).let { Point(it[0], it[1]) }
    private fun Map<*, *>.box(name: String) = doubles(name).let { Box(it[0], it[1], it[2], it[3]) }
}

/** A reader of JSON without escapes, so that the module needs no library. */
private class Json(private val text: String) {
    private var at = 0

    fun value(): Any? = when (peek()) {
        '{' -> items('}') { string().also { expect(':') } to value() }.toMap()
        '[' -> items(']') { value() }
        '"' -> string()
        't' -> word("true", true)
        'f' -> word("false", false)
        'n' -> word("null", null)
        else -> text.substring(at, (at until text.length).firstOrNull { text[it] !in "+-.eE0123456789" } ?: text.length)
            .also { at += it.length }.toDouble()
    }

    private fun <Item> items(end: Char, item: () -> Item): List<Item> {
        val found = mutableListOf<Item>()
        at++
        while (peek() != end) {
            found += item()
            if (peek() == ',') at++
        }
        at++
        return found
    }

    private fun string(): String {
        peek()
        val end = text.indexOf('"', at + 1)
        return text.substring(at + 1, end).also { at = end + 1 }
    }

    private fun <Value> word(word: String, value: Value): Value = value.also { at += word.length }

    private fun expect(sign: Char) = check(peek() == sign).also { at++ }

    private fun peek(): Char {
        while (text[at].isWhitespace()) at++
        return text[at]
    }
}

fun main(arguments: Array<String>) = println(Golden.check(File(arguments[0]).readText()))
