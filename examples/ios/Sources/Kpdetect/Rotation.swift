import Foundation

/// A found face that leans by more than this, in degrees, is also tried as an upright one.
public let certainRollDegrees = 20.0
/// A face of a lower score may be predicted in a wrong rotation.
public let certainScore = 0.98
/// The lowest score of a face that only another rotation finds.
public let retryScore = 0.95
/// Where other faces are found, only detections of this score are tried in other rotations.
public let likelyDetection = 0.35

private let samePlace = 0.3  // intersection over union from which two boxes are in one place
private let mostTurned = 20

/// The direction across a face of 68 points: from eye to eye, plus from the eyes to the mouth, turned by 90 degrees.
public func acrossFace(_ points: [Point]) -> Point {
  let (right, left) = (points[36], points[45])  // the outer eye corners
  let mouth = points[48..<68]
  let mouthX = mouth.reduce(0) { $0 + $1.x } / Double(mouth.count)
  let mouthY = mouth.reduce(0) { $0 + $1.y } / Double(mouth.count)
  let beside = Point(mouthY - (right.y + left.y) / 2, (right.x + left.x) / 2 - mouthX)
  let (x, y) = (left.x - right.x, left.y - right.y)
  let sign: Double = x * beside.x + y * beside.y < 0 ? -1 : 1  // the eyes of a profile may have changed sides
  return Point(sign * x + beside.x, sign * y + beside.y)
}

/// The oriented box of a face of 68 points; its rotation is 0 up to `certainRollDegrees`.
public func orientedBox(_ points: [Point]) -> Oriented {
  let across = acrossFace(points)
  let angle = atan2(across.y, across.x)
  let roll = abs(angle) > certainRollDegrees * .pi / 180 ? angle : 0
  let turn = Matrix(cos(roll), sin(roll), 0, -sin(roll), cos(roll), 0)
  let box = Box(of: points.map { turn($0) })
  let center = turn.inverse(Point((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))
  return Oriented(x: center.x, y: center.y, width: box.width, height: box.height, roll: roll)
}

/// The detections, and those that lean a second time as upright: the finder's rotation of small faces may be wrong.
public func withUpright(_ found: [Detection]) -> [Detection] {
  found + found.filter { cos($0.face.roll) < cos(certainRollDegrees * .pi / 180) }.map { $0.turned(by: -$0.face.roll) }
}

/// Detections without a certain face, turned by 90, 180 and 270 degrees: the finder's rotation may be wrong. `faces` are
/// the boxes and scores of the faces that were found in `found`.
public func turnedByQuarters(_ found: [Detection], faces: [(box: Box, score: Double)]) -> [Detection] {
  let doubtful = found.filter { one in
    let here = faces.filter { $0.box.intersectionOverUnion(one.box) >= samePlace }
    let likely = one.score >= likelyDetection || !here.isEmpty || faces.isEmpty
    return likely && here.allSatisfy { $0.score < certainScore }
  }
  let best = nonMaximumSuppression(doubtful.map(\.box), doubtful.map(\.score), maxOverlap: samePlace).prefix(mostTurned)
  return (1...3).flatMap { quarters in best.map { doubtful[$0].turned(by: Double(quarters) * .pi / 2) } }
}

/// Drops boxes that share more than a part of their area, or of the other's, with one of a higher score.
public func withoutContained(_ boxes: [Box], _ scores: [Double], mostContained: Double = 0.35) -> [Int] {
  var kept: [Int] = []
  for index in scores.indices.sorted(by: { scores[$0] > scores[$1] })
  where kept.allSatisfy({ boxes[index].common(boxes[$0]) <= mostContained * min(boxes[index].area, boxes[$0].area) }) {
    kept.append(index)
  }
  return kept
}

extension Detection {
  /// This detection, turned clockwise by an angle in radians.
  func turned(by angle: Double) -> Detection {
    var face = self.face
    face.roll += angle
    return Detection(face: face, score: score)
  }
}
