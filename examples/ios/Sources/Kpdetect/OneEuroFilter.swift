import Foundation

/// Adaptive low-pass smoothing of keypoints (Casiez, Roussel and Vogel, CHI 2012), as in `kpdetect.tracking.smoothing`:
/// points at rest do not tremble, and moving ones do not lag. `beta` is the increase of the cut-off in Hz per speed of
/// one face side a second.
public struct OneEuroFilter {
  public var minCutoffHz = 1.0, beta = 30.0, speedCutoffHz = 1.0
  private var points: [Point]?
  private var speed: [Point] = []
  private var time = 0.0

  public init() {}

  /// `side` is the longer side of the face's box, so that near and far faces are smoothed alike.
  public mutating func next(_ new: [Point], timeS: Double, side: Double) -> [Point] {
    let step = max(timeS - time, 1e-6)
    time = timeS
    guard let before = points else {
      speed = new.map { _ in Point(0, 0) }
      points = new
      return new
    }
    let reach = step * max(side, 1)
    for i in new.indices {
      let velocity = Point((new[i].x - before[i].x) / reach, (new[i].y - before[i].y) / reach)
      speed[i] = towards(speed[i], velocity, share(speedCutoffHz, step))
    }
    let smoothed = new.indices.map { i in
      towards(before[i], new[i], share(minCutoffHz + beta * hypot(speed[i].x, speed[i].y), step))
    }
    points = smoothed
    return smoothed
  }

  private func towards(_ from: Point, _ to: Point, _ part: Double) -> Point {
    Point(from.x + part * (to.x - from.x), from.y + part * (to.y - from.y))
  }

  private func share(_ cutoffHz: Double, _ step: Double) -> Double {
    let turn = 2 * Double.pi * cutoffHz * step
    return turn / (turn + 1)
  }
}
