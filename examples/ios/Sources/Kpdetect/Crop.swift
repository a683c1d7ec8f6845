import Foundation

/// A grey picture, row by row, 0 to 255.
public struct Grey {
  public let width: Int, height: Int
  public let pixels: [Float]
  public init(width: Int, height: Int, pixels: [Float]) {
    (self.width, self.height, self.pixels) = (width, height, pixels)
  }

  /// The grey of RGBA pixels, four bytes each, rounded as OpenCV rounds.
  public init(width: Int, height: Int, rgba: [UInt8]) {
    self.init(width: width, height: height, pixels: (0..<width * height).map { i in
      let (r, g, b) = (Int(rgba[4 * i]), Int(rgba[4 * i + 1]), Int(rgba[4 * i + 2]))
      return Float((9798 * r + 19235 * g + 3735 * b + 16384) >> 15)
    })
  }
}

private let reach = 8  // blocks beyond the crop that the blur and the interpolation use

/// Resamples a crop, as `kpdetect.core.images.warp_crop` does: bilinear, antialiased when it shrinks, black outside.
/// `matrix` is photograph to crop; the result has height x width grey levels, 0 to 255.
public func warpCrop(_ picture: Grey, _ matrix: Matrix, width: Int, height: Int) -> [Float] {
  let back = matrix.inverse
  let shrinkX = max(hypot(back.a, back.b), 1), shrinkY = max(hypot(back.d, back.e), 1)
  // Blocks take half of the shrinking; the blur after them removes the aliasing of their mean.
  let blockX = max(Int((shrinkX / 2 + 1e-6).rounded(.down)), 1), blockY = max(Int((shrinkY / 2 + 1e-6).rounded(.down)), 1)
  let corners = [0, width - 1].flatMap { x in [0, height - 1].map { y in back(Point(Double(x), Double(y))) } }
  guard let across = span(corners.map(\.x), blockX, picture.width),
    let down = span(corners.map(\.y), blockY, picture.height)
  else { return [Float](repeating: 0, count: width * height) }
  let means = blockMeans(picture, across, down, blockX, blockY)
  let blurred = blur(means, shrinkX / Double(blockX), shrinkY / Double(blockY))
  let toPicture = Matrix(
    Double(blockX), 0, Double(across.first) + Double(blockX - 1) / 2,
    0, Double(blockY), Double(down.first) + Double(blockY - 1) / 2)
  return sample(blurred, matrix.after(toPicture).inverse, width, height)
}

/// The first pixel and the number of blocks along one axis; nil if the crop does not meet the picture.
private func span(_ seen: [Double], _ block: Int, _ extent: Int) -> (first: Int, count: Int)? {
  let low = max(Int(seen.min()!.rounded(.down)) - reach * block, -reach * block)
  let high = min(Int(seen.max()!.rounded(.up)) + 1 + reach * block, extent + reach * block)
  let first = Int((Double(low) / Double(block)).rounded(.down)) * block  // blocks are aligned to the picture's corner
  return high <= 0 || first >= extent ? nil : (first, (high - first + block - 1) / block)
}

private func blockMeans(
  _ picture: Grey, _ across: (first: Int, count: Int), _ down: (first: Int, count: Int), _ blockX: Int, _ blockY: Int
) -> Grey {
  var sums = [Float](repeating: 0, count: across.count * down.count)
  let right = min(across.first + across.count * blockX, picture.width)
  for y in max(down.first, 0)..<max(min(down.first + down.count * blockY, picture.height), max(down.first, 0)) {
    let row = (y - down.first) / blockY * across.count
    for x in max(across.first, 0)..<max(right, max(across.first, 0)) {
      sums[row + (x - across.first) / blockX] += picture.pixels[y * picture.width + x]
    }
  }
  let size = Float(blockX * blockY)
  if size > 1 { sums = sums.map { ($0 / size + 0.5).rounded(.down) } }
  return Grey(width: across.count, height: down.count, pixels: sums)
}

/// Blurs for the remaining shrinking: from half a pixel of blur to half a pixel of the crop.
private func blur(_ picture: Grey, _ shrinkX: Double, _ shrinkY: Double) -> Grey {
  let sigmaX = 0.5 * max(shrinkX * shrinkX - 1, 0).squareRoot(), sigmaY = 0.5 * max(shrinkY * shrinkY - 1, 0).squareRoot()
  if max(sigmaX, sigmaY) < 0.1 { return picture }
  let (w, h) = (picture.width, picture.height)
  let across = blurLines(picture.pixels, gaussian(sigmaX), length: w, stride: 1, lines: h, lineStride: w)
  let both = blurLines(across, gaussian(sigmaY), length: h, stride: w, lines: w, lineStride: 1)
  return Grey(width: w, height: h, pixels: both)
}

/// Weights of a Gaussian from its centre outwards, to four sigma.
private func gaussian(_ sigma: Double) -> [Double] {
  let half = Int((8 * sigma + 1).rounded()) / 2
  let weights = (0...half).map { $0 == 0 ? 1 : exp(-Double($0 * $0) / (2 * sigma * sigma)) }
  let sum = 2 * weights.reduce(0, +) - weights[0]
  return weights.map { $0 / sum }
}

private func blurLines(
  _ pixels: [Float], _ weights: [Double], length: Int, stride: Int, lines: Int, lineStride: Int
) -> [Float] {
  var blurred = [Float](repeating: 0, count: pixels.count)
  for line in 0..<lines {
    let start = line * lineStride
    for at in 0..<length {
      var sum = weights[0] * Double(pixels[start + at * stride])
      for i in 1..<max(weights.count, 1) {
        let before = pixels[start + mirrored(at - i, length) * stride]
        let after = pixels[start + mirrored(at + i, length) * stride]
        sum += weights[i] * Double(before + after)
      }
      blurred[start + at * stride] = Float(sum)
    }
  }
  return blurred
}

/// Reflects a position at the first and last pixels into 0..<length.
private func mirrored(_ at: Int, _ length: Int) -> Int {
  if length == 1 { return 0 }
  let period = 2 * (length - 1)
  let inside = ((at % period) + period) % period
  return inside < length ? inside : period - inside
}

/// Interpolates at positions that are rounded to 1/32 pixel, as OpenCV does.
private func sample(_ picture: Grey, _ crop: Matrix, _ width: Int, _ height: Int) -> [Float] {
  func at(_ x: Int, _ y: Int) -> Float {
    (0..<picture.width).contains(x) && (0..<picture.height).contains(y) ? picture.pixels[y * picture.width + x] : 0
  }
  func fine(_ value: Double) -> Int { Int((value * 1024 + 0.5).rounded(.down)) }
  return (0..<width * height).map { i in
    let (u, v) = (Double(i % width), Double(i / width))
    let x = (fine(crop.b * v + crop.c) + 16 + fine(crop.a * u)) >> 5
    let y = (fine(crop.e * v + crop.f) + 16 + fine(crop.d * u)) >> 5
    let right = Float(x & 31) / 32, low = Float(y & 31) / 32
    let above = (1 - right) * at(x >> 5, y >> 5) + right * at((x >> 5) + 1, y >> 5)
    let below = (1 - right) * at(x >> 5, (y >> 5) + 1) + right * at((x >> 5) + 1, (y >> 5) + 1)
    return ((1 - low) * above + low * below + 0.5).rounded(.down)
  }
}
