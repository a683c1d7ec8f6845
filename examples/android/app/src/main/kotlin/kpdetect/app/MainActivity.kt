package kpdetect.app

import android.Manifest
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Matrix
import android.graphics.Paint
import android.os.Bundle
import android.view.View
import android.widget.FrameLayout
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.lifecycle.ProcessCameraProvider
import java.util.concurrent.Executors
import kpdetect.Grey
import kpdetect.OneEuroFilter

/** The camera's picture with the points of its faces. */
class MainActivity : ComponentActivity() {
    private val worker = Executors.newSingleThreadExecutor()
    private lateinit var predictor: FacePredictor
    private lateinit var overlay: Overlay

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        overlay = Overlay(this)
        setContentView(FrameLayout(this).apply { addView(overlay) })
        predictor = FacePredictor(this)
        registerForActivityResult(ActivityResultContracts.RequestPermission()) { if (it) start() }
            .launch(Manifest.permission.CAMERA)
    }

    private fun start() {
        val provider = ProcessCameraProvider.getInstance(this)
        provider.addListener({
            val analysis = ImageAnalysis.Builder()
                .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
                .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
                .build()
            analysis.setAnalyzer(worker, Analyzer())
            provider.get().unbindAll()
            provider.get().bindToLifecycle(this, CameraSelector.DEFAULT_FRONT_CAMERA, analysis)
        }, mainExecutor)
    }

    /** Follows the faces of the last frame, and detects while there is none, and once a second. */
    private inner class Analyzer : ImageAnalysis.Analyzer {
        private var faces = listOf<Pair<Face, OneEuroFilter>>()
        private var detectedAt = -1e9

        override fun analyze(frame: ImageProxy) {
            val seconds = frame.imageInfo.timestamp / 1e9
            val bitmap = frame.use { upright(it.toBitmap(), it.imageInfo.rotationDegrees) }
            val argb = IntArray(bitmap.width * bitmap.height)
            bitmap.getPixels(argb, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
            val grey = Grey.ofArgb(bitmap.width, bitmap.height, argb)
            faces = faces.map { (face, filter) -> predictor.follow(grey, face) to filter }.filter { (face, _) -> face.score >= 0.5 }
            if (faces.isEmpty() || seconds - detectedAt > 1) {
                detectedAt = seconds
                val known = faces.map { (face, _) -> face.box }
                faces += predictor.detect(grey)
                    .filter { found -> known.none { it.intersectionOverUnion(found.box) > 0.3 } }
                    .map { it to OneEuroFilter() }
            }
            val smooth = faces.map { (face, filter) ->
                Face(filter.next(face.points, seconds, maxOf(face.box.width, face.box.height)), face.errors, face.score)
            }
            runOnUiThread { overlay.show(bitmap, smooth) }
        }

        private fun upright(bitmap: Bitmap, degrees: Int): Bitmap =
            Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, Matrix().apply { postRotate(degrees.toFloat()) }, true)
    }

    override fun onDestroy() {
        super.onDestroy()
        worker.execute { predictor.close() }
        worker.shutdown()
    }
}

/** Shows the frame that was predicted, mirrored as in a mirror, and its faces. */
class Overlay(context: android.content.Context) : View(context) {
    private var frame: Bitmap? = null
    private var faces = emptyList<Face>()
    private val paint = Paint(Paint.ANTI_ALIAS_FLAG).apply { color = Color.rgb(0, 255, 120) }

    fun show(frame: Bitmap, faces: List<Face>) {
        this.frame = frame
        this.faces = faces
        invalidate()
    }

    override fun onDraw(canvas: Canvas) {
        val picture = frame ?: return
        val scale = minOf(width.toFloat() / picture.width, height.toFloat() / picture.height)
        canvas.translate((width + picture.width * scale) / 2, (height - picture.height * scale) / 2)
        canvas.scale(-scale, scale)
        canvas.drawBitmap(picture, 0f, 0f, null)
        for (face in faces) for (point in face.points) {
            // The centre of a pixel is at the integer; a canvas counts from the pixel's corner.
            canvas.drawCircle(point.x.toFloat() + 0.5f, point.y.toFloat() + 0.5f, 3 / scale, paint)
        }
    }
}
