import Foundation

#if canImport(Kpdetect)
@testable import Kpdetect
#endif

struct GoldenError: Error { let text: String }

private typealias Record = [String: Any]

/// Checks all golden numbers; returns a line about the crops.
func checkGolden(_ data: Data) throws -> String {
  guard let golden = try JSONSerialization.jsonObject(with: data) as? Record else { throw GoldenError(text: "no object") }
  let picture = golden["picture"] as! Record
  let grey = formulaPicture(number(picture, "width"), number(picture, "height"))
  var greatest = 0.0
  for crop in records(golden, "crops") {
    let side: Int = number(crop, "side")
    let rule = CropRule(width: side, height: side, margin: numbers(crop["margin"]!)[0])
    let matrix: Matrix
    if let box = crop["box"] {
      let b = numbers(box)
      matrix = rule.matrix(Box(b[0], b[1], b[2], b[3]))
    } else {
      matrix = rule.upright(points(crop["points"]!), across: points([crop["across"]!])[0])
    }
    try near(crop["matrix"]!, [matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f], 1e-5, "matrix")
    let pixels = warpCrop(grey, matrix, width: side, height: side).map(Double.init)
    greatest = max(greatest, try near(crop["grey"]!, pixels, 2, "crop"))
  }
  let detector = golden["detector"] as! Record
  for cells in records(golden, "cells") where number(cells, "values") == 7 && cells["oriented"] != nil {
    let finder = Finder(
      side: 256, cell: numbers(detector["cell"]!)[0], sizeUnit: numbers(detector["size_unit"]!)[0],
      outputUnit: numbers(detector["output_unit"]!)[0], minScore: numbers(cells["min_score"]!)[0])
    let found = finder.decode(numbers(cells["output"]!).map(Float.init), columns: number(cells, "columns"))
    let oriented = found.flatMap { orientedNumbers($0.face) }
    try near(cells["oriented"]!, oriented, 2e-3, "oriented boxes")
    try near(cells["boxes"]!, found.flatMap { [$0.box.x0, $0.box.y0, $0.box.x1, $0.box.y1] }, 2e-3, "boxes")
  }
  let suppression = golden["suppression"] as! Record
  let sides = numbers(suppression["boxes"]!)
  let boxes = stride(from: 0, to: sides.count, by: 4).map { Box(sides[$0], sides[$0 + 1], sides[$0 + 2], sides[$0 + 3]) }
  let kept = nonMaximumSuppression(boxes, numbers(suppression["scores"]!))
  try near(suppression["kept"]!, kept.map(Double.init), 0, "suppression")
  let apart = withoutContained(boxes, numbers(suppression["scores"]!))
  try near(suppression["apart"]!, apart.map(Double.init), 0, "contained boxes")
  for face in records(golden, "leaning") {
    try near(face["oriented"]!, orientedNumbers(orientedBox(points(face["keypoints"]!))), 2e-3, "rotation of a face")
  }
  for one in records(golden, "turned") {
    let rows = numbers(one["oriented"]!), scores = numbers(one["scores"]!)
    let found = scores.indices.map { i in
      let row = Array(rows[5 * i..<5 * i + 5])
      let face = Oriented(x: row[0], y: row[1], width: row[2], height: row[3], roll: row[4] * .pi / 180)
      return Detection(face: face, score: scores[i])
    }
    var faces: [(box: Box, score: Double)] = []
    if let face = one["face"] as? Record {
      faces.append((Box(of: points(face["keypoints"]!)), numbers(face["score"]!)[0]))
    }
    let turned = turnedByQuarters(found, faces: faces).flatMap { orientedNumbers($0.face) }
    try near(one["turned"]!, turned, 2e-3, "other rotations")
  }
  var filter = OneEuroFilter()
  for frame in records(golden["one_euro"] as! Record, "frames") {
    let (time, side) = (numbers(frame["time_s"]!)[0], numbers(frame["side"]!)[0])
    let smoothed = filter.next(points(frame["points"]!), timeS: time, side: side)
    try near(frame["smoothed"]!, smoothed.flatMap { [$0.x, $0.y] }, 1e-3, "One Euro filter")
  }
  let score = golden["face_score"] as! Record
  let rule = score["rule"] as! Record
  let scores = (score["uncertainty"] as! [Any]).map {
    faceScore(numbers($0).map(Float.init), middle: numbers(rule["middle"]!)[0], slope: numbers(rule["slope"]!)[0])
  }
  try near(score["scores"]!, scores, 1e-4, "face score")
  return "golden numbers: crops within \(greatest) grey levels"
}

private func orientedNumbers(_ face: Oriented) -> [Double] {
  [face.x, face.y, face.width, face.height, face.roll * 180 / .pi]
}

private func formulaPicture(_ width: Int, _ height: Int) -> Grey {
  var rgba: [UInt8] = []
  for y in 0..<height {
    for x in 0..<width {
      rgba += [UInt8((7 * x + 2 * y) % 256), UInt8((x * y / 16) % 256), UInt8((3 * x + 5 * y + 101) % 256), 255]
    }
  }
  return Grey(width: width, height: height, rgba: rgba)
}

/// All numbers of a value, in their order.
private func numbers(_ value: Any) -> [Double] {
  if let list = value as? [Any] { return list.flatMap(numbers) }
  return [(value as! NSNumber).doubleValue]
}

private func number(_ record: Record, _ name: String) -> Int { Int(numbers(record[name]!)[0]) }

private func records(_ record: Record, _ name: String) -> [Record] { record[name] as! [Record] }

private func points(_ value: Any) -> [Point] {
  let all = numbers(value)
  return stride(from: 0, to: all.count, by: 2).map { Point(all[$0], all[$0 + 1]) }
}

@discardableResult
private func near(_ expected: Any, _ received: [Double], _ tolerance: Double, _ what: String) throws -> Double {
  let wanted = numbers(expected)
  guard wanted.count == received.count else {
    throw GoldenError(text: "\(what): expected \(wanted.count) numbers, received \(received.count)")
  }
  let far = zip(wanted, received).map { abs($0 - $1) }.max() ?? 0
  guard far <= tolerance else { throw GoldenError(text: "\(what): expected at most \(tolerance), received \(far)") }
  return far
}
