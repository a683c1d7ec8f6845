import Foundation
import XCTest

@testable import Kpdetect

/// Compares this package with the numbers that Python wrote (`kpdetect export --golden`, or tools/golden.py).
final class GoldenTests: XCTestCase {
  func testNumbersEqualThoseOfPython() throws {
    let url = try XCTUnwrap(Bundle.module.url(forResource: "golden", withExtension: "json"))
    print(try checkGolden(Data(contentsOf: url)))
  }
}
