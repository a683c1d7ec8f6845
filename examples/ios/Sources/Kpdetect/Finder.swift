import Foundation

/// A face in its own upright frame, in pixels; `roll` is in radians, positive if the head leans clockwise.
public struct Oriented {
  public var x: Double, y: Double, width: Double, height: Double, roll: Double

  private static let half: [(Double, Double)] = [
    (0.26, -0.5), (0.34, -0.48), (0.4, -0.43), (0.5, -0.32), (0.5, -0.19), (0.48, -0.05), (0.45, 0.08),
    (0.4, 0.21), (0.32, 0.32), (0.23, 0.41), (0.12, 0.48), (0, 0.5),
  ]
  private static let outline = half + half.dropLast().map { (-$0.0, $0.1) }

  /// The axis-aligned box: the tight box of a mean face's outline in this place.
  public var box: Box {
    let (c, s) = (cos(roll), sin(roll))
    return Box(of: Self.outline.map { u, v in
      Point(x + c * u * width - s * v * height, y + s * u * width + c * v * height)
    })
  }

  /// The box after the face is turned upright about its centre.
  public var upright: Box { Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2) }
}

/// A face that the finder found.
public struct Detection {
  public var face: Oriented, score: Double
  public var box: Box { face.box }
}

/// The constants and the decoding of the face finder, as in `kpdetect.detection.finder`. The file for a phone has a
/// fixed square input: the photograph is scaled into it, with a smaller copy in the rest of the square.
public struct Finder {
  /// A copy of the photograph in the square: where it lies, and its pixels per pixel of the photograph.
  public struct Level {
    public var x: Int, y: Int, width: Int, height: Int, scale: Double
  }

  public var side: Int, cell = 8.0, sizeUnit = 32.0, outputUnit = 8.0, minScore = 0.15
  private let values = 7, fused = 0.35, ratio = 4.0, gap = 16, small = 128.0

  public init(side: Int = 256, cell: Double = 8, sizeUnit: Double = 32, outputUnit: Double = 8, minScore: Double = 0.15) {
    (self.side, self.cell, self.sizeUnit, self.outputUnit, self.minScore) = (side, cell, sizeUnit, outputUnit, minScore)
  }

  /// Scales that fit: the first copy fills most of the square, the second a part of what is left.
  public func levels(width: Int, height: Int) -> [Level] {
    let longer = Double(max(width, height)), shorter = Double(min(width, height))
    let scale = min(Double(side) / longer, Double(side - gap) / (shorter + longer / ratio))
    let first = level(width, height, 0, 0, scale)
    if longer * scale <= small { return [first] }
    let wide = width >= height
    return [first, level(width, height, wide ? 0 : first.width + gap, wide ? first.height + gap : 0, scale / ratio)]
  }

  private func level(_ width: Int, _ height: Int, _ x: Int, _ y: Int, _ scale: Double) -> Level {
    Level(x: x, y: y, width: max(Int(Double(width) * scale), 1), height: max(Int(Double(height) * scale), 1), scale: scale)
  }

  /// The network's input, side x side grey levels: each level resampled with its antialiasing.
  public func picture(_ photograph: Grey, _ levels: [Level]) -> [Float] {
    var square = [Float](repeating: 128, count: side * side)
    for level in levels {
      let shift = 0.5 * level.scale - 0.5
      let matrix = Matrix(level.scale, 0, shift, 0, level.scale, shift)
      let scaled = warpCrop(photograph, matrix, width: level.width, height: level.height)
      for row in 0..<level.height {
        let start = (level.y + row) * side + level.x
        square.replaceSubrange(start..<start + level.width, with: scaled[row * level.width..<(row + 1) * level.width])
      }
    }
    return square
  }

  /// Converts the output, rows x columns x 28, to faces of the picture. Each quarter of a cell has the logit, and the
  /// centre's x and y, the logarithms of width and height, and the sine and cosine of the roll, times `outputUnit`.
  public func decode(_ output: [Float], columns: Int) -> [Detection] {
    let rows = output.count / (values * 4 * columns)
    var found: [Detection] = []
    for row in 0..<2 * rows {
      for column in 0..<2 * columns {
        let at = ((row / 2 * columns + column / 2) * 4 + 2 * (row & 1) + (column & 1)) * values
        let score = 1 / (1 + exp(-min(max(Double(output[at]), -50), 50)))
        if score < minScore { continue }
        func value(_ index: Int) -> Double { Double(output[at + index]) / outputUnit }
        let face = Oriented(
          x: (Double(column) + 0.5 + value(1)) * cell - 0.5, y: (Double(row) + 0.5 + value(2)) * cell - 0.5,
          width: exp(min(max(value(3), -3), 3)) * sizeUnit, height: exp(min(max(value(4), -3), 3)) * sizeUnit,
          roll: atan2(value(5), value(6)))
        found.append(Detection(face: face, score: score))
      }
    }
    return found
  }

  /// Faces of the picture in the photograph's pixels, by the level nearest to each centre.
  public func toPhotograph(_ found: [Detection], _ levels: [Level]) -> [Detection] {
    found.map { one in
      func beside(_ level: Level) -> Double {
        let (x, y) = (Double(level.x), Double(level.y))
        return max(max(x - one.face.x, one.face.x - x - Double(level.width)), 0)
          + max(max(y - one.face.y, one.face.y - y - Double(level.height)), 0)
      }
      let level = levels.min { beside($0) < beside($1) }!
      var face = one.face
      face.x = (face.x + 0.5 - Double(level.x)) / level.scale - 0.5
      face.y = (face.y + 0.5 - Double(level.y)) / level.scale - 0.5
      (face.width, face.height) = (face.width / level.scale, face.height / level.scale)
      return Detection(face: face, score: one.score)
    }
  }

  /// Averages the predictions of neighbouring cells, weighted by their scores; faces by falling score.
  public func fuse(_ found: [Detection]) -> [Detection] {
    var free = found.sorted { $0.score > $1.score }
    var result: [Detection] = []
    while let first = free.first {
      let box = first.box
      let near = [first] + free.dropFirst().filter { $0.box.intersectionOverUnion(box) >= fused }
      free = free.dropFirst().filter { $0.box.intersectionOverUnion(box) < fused }
      let sum = near.reduce(0) { $0 + $1.score }
      func mean(_ value: (Oriented) -> Double) -> Double { near.reduce(0) { $0 + $1.score * value($1.face) } / sum }
      let roll = atan2(mean { sin($0.roll) }, mean { cos($0.roll) })
      let face = Oriented(x: mean(\.x), y: mean(\.y), width: mean(\.width), height: mean(\.height), roll: roll)
      result.append(Detection(face: face, score: first.score))
    }
    return result
  }
}

/// Keeps the best of several faces in one place; indices by falling score.
public func nonMaximumSuppression(_ boxes: [Box], _ scores: [Double], maxOverlap: Double = 0.4) -> [Int] {
  var kept: [Int] = []
  for index in scores.indices.sorted(by: { scores[$0] > scores[$1] })
  where kept.allSatisfy({ boxes[index].intersectionOverUnion(boxes[$0]) < maxOverlap }) {
    kept.append(index)
  }
  return kept
}

/// The score of a face, 0 to 1, by `face_score` of spec.json, for models without an output `score`.
public func faceScore(_ uncertainty: [Float], middle: Double, slope: Double) -> Double {
  let mean = uncertainty.reduce(0) { $0 + Double($1) } / Double(uncertainty.count)
  return 1 / (1 + exp(min(max(slope * (log(max(mean, 1e-9)) - middle), -50), 50)))
}
