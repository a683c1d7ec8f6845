package kpdetect.app

import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import kotlin.math.hypot
import kotlin.math.max
import kpdetect.Box
import kpdetect.CropRule
import kpdetect.Detection
import kpdetect.Finder
import kpdetect.Grey
import kpdetect.Matrix
import kpdetect.Point
import kpdetect.RETRY_SCORE
import kpdetect.acrossFace
import kpdetect.nonMaximumSuppression
import kpdetect.turnedByQuarters
import kpdetect.warpCrop
import kpdetect.withUpright
import kpdetect.withoutContained

/** A face: 68 points and the expected error of each, in pixels of the photograph, and its score from 0 to 1. */
class Face(val points: List<Point>, val errors: List<Double>, val score: Double) {
    val box = Box.of(points)
}

/** One file of fixed shape. Use an object from one thread at a time. */
class Network(context: Context, file: String, accelerator: Accelerator, outputs: List<String>) : AutoCloseable {
    private val model = CompiledModel.create(context.assets, file, CompiledModel.Options(accelerator))
    private val inputs = mapOf("image" to model.createInputBuffer("image"))
    private val results = outputs.associateWith { model.createOutputBuffer(it) } // by name: their order is not fixed

    /** @param pixels 0 to 255; `asBytes` for files whose input is uint8 */
    fun run(pixels: FloatArray, asBytes: Boolean): Map<String, FloatArray> {
        val image = inputs.getValue("image")
        if (asBytes) image.writeInt8(ByteArray(pixels.size) { pixels[it].toInt().toByte() }) else image.writeFloat(pixels)
        model.run(inputs, results)
        return results.mapValues { (_, buffer) -> buffer.readFloat() }
    }

    override fun close() {
        (inputs.values + results.values).forEach { it.close() }
        model.close()
    }
}

/** Finds faces and predicts their points, with files from `app/src/main/assets`. */
class FacePredictor(context: Context, private val minScore: Double = 0.5) : AutoCloseable {
    private val finder = Finder(FINDER_SIDE)
    private val finderNetwork = Network(context, "finder_$FINDER_SIDE.tflite", Accelerator.CPU, listOf("faces"))
    private val landmarks = gpuOrCpu(context)
    private val rule = CropRule()

    /** The faces of a photograph, largest first. */
    fun detect(photograph: Grey): List<Face> {
        val levels = finder.levels(photograph.width, photograph.height)
        val output = finderNetwork.run(finder.picture(photograph, levels), asBytes = true).getValue("faces")
        val found = withUpright(finder.fuse(finder.toPhotograph(finder.decode(output, FINDER_SIDE / 16), levels)).take(MOST))
        val faces = best(predictTwice(photograph, found, LEAST).filter { it.score >= minScore })
        val turned = turnedByQuarters(found, faces.map { it.box to it.score }) // the finder's rotation may be wrong
        return best(faces + predictTwice(photograph, turned, PROMISING).filter { it.score >= max(minScore, RETRY_SCORE) })
    }

    /** The face near known points: one prediction, also for the next frame of a video. */
    fun follow(photograph: Grey, face: Face) = predict(photograph, rule.upright(face.points, acrossFace(face.points)))

    /** Predicts found faces, and those of at least a score a second time in upright crops around their first points. */
    private fun predictTwice(photograph: Grey, found: List<Detection>, least: Double) =
        found.map { predict(photograph, rule.matrix(it.face.upright, it.face.roll)) }
            .filter { it.score >= least }
            .map { follow(photograph, it) }

    /** Of several faces in one place the one of the highest score; the largest comes first. */
    private fun best(faces: List<Face>): List<Face> {
        val apart = nonMaximumSuppression(faces.map { it.box }, faces.map { it.score }).map { faces[it] }
        return withoutContained(apart.map { it.box }, apart.map { it.score }).map { apart[it] }.sortedByDescending { it.box.area }
    }

    private fun predict(photograph: Grey, matrix: Matrix): Face {
        val outputs = landmarks.run(warpCrop(photograph, matrix, rule.width, rule.height), asBytes = false)
        val relative = outputs.getValue("keypoints")
        val back = matrix.inverse()
        val points = List(relative.size / 2) {
            back(Point(relative[2 * it] * rule.width - 0.5, relative[2 * it + 1] * rule.height - 0.5))
        }
        val side = max(rule.width, rule.height) * hypot(back.a, back.d)
        return Face(points, outputs.getValue("uncertainty").map { it * side }, outputs.getValue("score")[0].toDouble())
    }

    override fun close() {
        finderNetwork.close()
        landmarks.close()
    }

    private companion object {
        const val FINDER_SIDE = 256 // 480 for faces of less than a tenth of the picture
        const val MOST = 20 // candidates for which the landmark model runs
        const val LEAST = 0.005 // score of a first prediction that is worth a second one
        const val PROMISING = 0.5 // the same in another rotation than the finder's

        fun gpuOrCpu(context: Context): Network {
            val outputs = listOf("keypoints", "uncertainty", "score")
            return runCatching { Network(context, "compact_fp16_b1.tflite", Accelerator.GPU, outputs) }
                .getOrElse { Network(context, "compact_fp16_b1.tflite", Accelerator.CPU, outputs) }
        }
    }
}
