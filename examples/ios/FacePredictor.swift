import Foundation
import Kpdetect
import LiteRT

/// A face: 68 points and the expected error of each, in pixels of the photograph, and its score from 0 to 1.
public struct Face {
  public let points: [Point], errors: [Double], score: Double
  public var box: Box { Box(of: points) }
}

/// One file of fixed shape. Use an object from one thread at a time.
final class Network {
  private let model: CompiledModel
  private let inputs: [TensorBuffer], outputs: [TensorBuffer], names: [String]

  init(file: String, accelerators: HardwareAccelerators) throws {
    guard let path = Bundle.main.path(forResource: file, ofType: "tflite") else { throw CocoaError(.fileNoSuchFile) }
    let options = try Options()
    try options.setHardwareAccelerators(accelerators)
    let model = try CompiledModel(filePath: path, environment: Environment(), options: options)
    let buffers = try model.createOutputBuffers()
    names = try buffers.indices.map { try model.outputName(outputIndex: $0) }  // the order is not fixed
    (self.model, inputs, outputs) = (model, try model.createInputBuffers(), buffers)
  }

  func run<Pixel>(_ pixels: [Pixel]) throws -> [String: [Float]] {
    try inputs[0].write(pixels)
    try model.run(inputs: inputs, outputs: outputs)
    let values: [[Float]] = try outputs.map { try $0.read() }
    return Dictionary(uniqueKeysWithValues: zip(names, values))
  }
}

/// Finds faces and predicts their points, with `finder_256.tflite` and `compact_fp16_b1.tflite` in the app's bundle.
public final class FacePredictor {
  private let finder = Finder(side: 256), rule = CropRule()
  private let finderNetwork: Network, landmarks: Network
  public var minScore = 0.5

  public init() throws {
    finderNetwork = try Network(file: "finder_256", accelerators: [.cpu])
    landmarks = try (try? Network(file: "compact_fp16_b1", accelerators: [.gpu]))  // Metal
      ?? Network(file: "compact_fp16_b1", accelerators: [.cpu])
  }

  /// The faces of a photograph, largest first.
  public func detect(_ photograph: Grey) throws -> [Face] {
    let levels = finder.levels(width: photograph.width, height: photograph.height)
    let pixels = finder.picture(photograph, levels).map { UInt8($0) }
    let output = try finderNetwork.run(pixels)["faces"]!
    let fused = finder.fuse(finder.toPhotograph(finder.decode(output, columns: finder.side / 16), levels))
    let found = withUpright(Array(fused.prefix(20)))
    let faces = best(try predictTwice(photograph, found, least: 0.005).filter { $0.score >= minScore })
    let turned = turnedByQuarters(found, faces: faces.map { ($0.box, $0.score) })  // the finder's rotation may be wrong
    let more = try predictTwice(photograph, turned, least: 0.5).filter { $0.score >= max(minScore, retryScore) }
    return best(faces + more)
  }

  /// The face near known points: one prediction, also for the next frame of a video.
  public func follow(_ photograph: Grey, _ face: Face) throws -> Face {
    try predict(photograph, rule.upright(face.points, across: acrossFace(face.points)))
  }

  /// Predicts found faces, and those of at least a score a second time in upright crops around their first points.
  private func predictTwice(_ photograph: Grey, _ found: [Detection], least: Double) throws -> [Face] {
    try found
      .map { try predict(photograph, rule.matrix($0.face.upright, roll: $0.face.roll)) }
      .filter { $0.score >= least }
      .map { try follow(photograph, $0) }
  }

  /// Of several faces in one place the one of the highest score; the largest comes first.
  private func best(_ faces: [Face]) -> [Face] {
    let apart = nonMaximumSuppression(faces.map(\.box), faces.map(\.score)).map { faces[$0] }
    let kept = withoutContained(apart.map(\.box), apart.map(\.score)).map { apart[$0] }
    return kept.sorted { $0.box.area > $1.box.area }
  }

  private func predict(_ photograph: Grey, _ matrix: Matrix) throws -> Face {
    let outputs = try landmarks.run(warpCrop(photograph, matrix, width: rule.width, height: rule.height))
    let relative = outputs["keypoints"]!.map(Double.init), back = matrix.inverse
    let points = stride(from: 0, to: relative.count, by: 2).map {
      back(Point(relative[$0] * Double(rule.width) - 0.5, relative[$0 + 1] * Double(rule.height) - 0.5))
    }
    let side = Double(max(rule.width, rule.height)) * hypot(back.a, back.d)
    let errors = outputs["uncertainty"]!.map { Double($0) * side }
    return Face(points: points, errors: errors, score: Double(outputs["score"]![0]))
  }
}
