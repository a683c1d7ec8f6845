import AVFoundation
import Kpdetect
import UIKit

/// The front camera's picture, as in a mirror, with the points of its faces.
final class CameraView: UIView, AVCaptureVideoDataOutputSampleBufferDelegate {
  private let session = AVCaptureSession(), queue = DispatchQueue(label: "kpdetect")
  private let predictor: FacePredictor
  private let dots = CAShapeLayer()
  private lazy var preview = AVCaptureVideoPreviewLayer(session: session)
  private var faces: [(face: Face, filter: OneEuroFilter)] = [], detectedAt = -Double.infinity

  init(predictor: FacePredictor) throws {
    self.predictor = predictor
    super.init(frame: .zero)
    guard let camera = AVCaptureDevice.default(.builtInWideAngleCamera, for: .video, position: .front) else {
      throw CocoaError(.featureUnsupported)
    }
    session.sessionPreset = .vga640x480
    session.addInput(try AVCaptureDeviceInput(device: camera))
    let output = AVCaptureVideoDataOutput()
    output.videoSettings = [kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA]
    output.setSampleBufferDelegate(self, queue: queue)
    session.addOutput(output)
    output.connection(with: .video)?.videoOrientation = .portrait
    layer.addSublayer(preview)
    dots.fillColor = UIColor.green.cgColor
    preview.addSublayer(dots)
    queue.async { self.session.startRunning() }
  }

  required init?(coder: NSCoder) { nil }

  override func layoutSubviews() {
    preview.frame = bounds
    dots.frame = bounds
  }

  func captureOutput(_ output: AVCaptureOutput, didOutput sample: CMSampleBuffer, from connection: AVCaptureConnection) {
    guard let buffer = CMSampleBufferGetImageBuffer(sample) else { return }
    let seconds = CMSampleBufferGetPresentationTimeStamp(sample).seconds
    let grey = greyOf(buffer)
    do {
      faces = try faces.map { (try predictor.follow(grey, $0.face), $0.filter) }.filter { $0.face.score >= 0.5 }
      if faces.isEmpty || seconds - detectedAt > 1 {
        detectedAt = seconds
        let known = faces.map(\.face.box)
        let found = try predictor.detect(grey).filter { one in known.allSatisfy { $0.intersectionOverUnion(one.box) <= 0.3 } }
        faces += found.map { ($0, OneEuroFilter()) }
      }
    } catch {
      print("kpdetect: \(error)")
    }
    let smooth = faces.indices.flatMap { i -> [Point] in
      let box = faces[i].face.box
      return faces[i].filter.next(faces[i].face.points, timeS: seconds, side: max(box.width, box.height))
    }
    DispatchQueue.main.async { self.show(smooth, width: Double(grey.width), height: Double(grey.height)) }
  }

  private func show(_ points: [Point], width: Double, height: Double) {
    let path = UIBezierPath()
    for point in points {
      // Relative to the frame; the centre of a pixel is at the integer.
      let place = CGPoint(x: (point.x + 0.5) / width, y: (point.y + 0.5) / height)
      let scale = min(bounds.width / width, bounds.height / height)
      let origin = CGPoint(x: (bounds.width - width * scale) / 2, y: (bounds.height - height * scale) / 2)
      let x = origin.x + (1 - place.x) * width * scale, y = origin.y + place.y * height * scale  // mirrored
      path.append(UIBezierPath(arcCenter: CGPoint(x: x, y: y), radius: 2, startAngle: 0, endAngle: 2 * .pi, clockwise: true))
    }
    dots.path = path.cgPath
  }

  private func greyOf(_ buffer: CVPixelBuffer) -> Grey {
    CVPixelBufferLockBaseAddress(buffer, .readOnly)
    defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
    let (width, height) = (CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer))
    let stride = CVPixelBufferGetBytesPerRow(buffer)
    let bytes = CVPixelBufferGetBaseAddress(buffer)!.assumingMemoryBound(to: UInt8.self)
    var pixels = [Float](repeating: 0, count: width * height)
    for y in 0..<height {
      for x in 0..<width {
        let at = y * stride + 4 * x  // blue, green, red, alpha
        let sum = 3735 * Int(bytes[at]) + 19235 * Int(bytes[at + 1]) + 9798 * Int(bytes[at + 2])
        pixels[y * width + x] = Float((sum + 16384) >> 15)
      }
    }
    return Grey(width: width, height: height, pixels: pixels)
  }
}
