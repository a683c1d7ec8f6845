import Foundation

/// A point in pixels; the centre of a pixel has integer coordinates.
public struct Point: Equatable {
  public var x: Double, y: Double
  public init(_ x: Double, _ y: Double) { (self.x, self.y) = (x, y) }
}

/// (x0, y0, x1, y1) in pixels.
public struct Box: Equatable {
  public var x0: Double, y0: Double, x1: Double, y1: Double
  public init(_ x0: Double, _ y0: Double, _ x1: Double, _ y1: Double) {
    (self.x0, self.y0, self.x1, self.y1) = (x0, y0, x1, y1)
  }

  /// The tight box of points.
  public init(of points: [Point]) {
    let x = points.map(\.x), y = points.map(\.y)
    self.init(x.min()!, y.min()!, x.max()!, y.max()!)
  }

  public var width: Double { x1 - x0 }
  public var height: Double { y1 - y0 }
  public var area: Double { width * height }

  /// The area of the intersection with another box.
  public func common(_ other: Box) -> Double {
    max(min(x1, other.x1) - max(x0, other.x0), 0) * max(min(y1, other.y1) - max(y0, other.y0), 0)
  }

  public func intersectionOverUnion(_ other: Box) -> Double {
    common(other) / max(area + other.area - common(other), 1e-12)
  }
}

/// The first two rows of an affine matrix, from source pixels to target pixels.
public struct Matrix {
  public var a, b, c, d, e, f: Double
  public init(_ a: Double, _ b: Double, _ c: Double, _ d: Double, _ e: Double, _ f: Double) {
    (self.a, self.b, self.c, self.d, self.e, self.f) = (a, b, c, d, e, f)
  }

  public func callAsFunction(_ p: Point) -> Point { Point(a * p.x + b * p.y + c, d * p.x + e * p.y + f) }

  /// This matrix after another one.
  public func after(_ first: Matrix) -> Matrix {
    let shift = self(Point(first.c, first.f))
    return Matrix(
      a * first.a + b * first.d, a * first.b + b * first.e, shift.x,
      d * first.a + e * first.d, d * first.b + e * first.e, shift.y)
  }

  public var inverse: Matrix {
    let determinant = a * e - b * d
    precondition(determinant != 0, "expected a matrix with an inverse")
    let (p, q, r, s) = (e / determinant, -b / determinant, -d / determinant, a / determinant)
    return Matrix(p, q, -(p * c + q * f), r, s, -(r * c + s * f))
  }
}

/// How a face box becomes the model's crop: `crop` of spec.json.
public struct CropRule {
  public var width = 160, height = 160, margin = 1.2
  public init(width: Int = 160, height: Int = 160, margin: Double = 1.2) {
    (self.width, self.height, self.margin) = (width, height, margin)
  }

  /// Photograph to crop: centred on the box of the upright face, which leans by `roll` radians clockwise.
  public func matrix(_ box: Box, roll: Double = 0) -> Matrix {
    precondition(box.width > 0 && box.height > 0, "expected a box with an area")
    let scale = 1 / (margin * max(box.width / Double(width), box.height / Double(height)))
    let (x, y) = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    let (c, s) = (scale * cos(roll), scale * sin(roll))
    return Matrix(
      c, s, Double(width) / 2 - 0.5 - c * x - s * y, -s, c, Double(height) / 2 - 0.5 + s * x - c * y)
  }

  /// Photograph to an upright crop around known points; `across` becomes the crop's x axis.
  public func upright(_ points: [Point], across: Point) -> Matrix {
    let length = hypot(across.x, across.y)
    precondition(length > 0, "expected a direction with a length")
    let turn = Matrix(across.x / length, across.y / length, 0, -across.y / length, across.x / length, 0)
    return matrix(Box(of: points.map { turn($0) })).after(turn)
  }
}
