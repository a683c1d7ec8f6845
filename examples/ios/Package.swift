// swift-tools-version: 5.9
import PackageDescription

let package = Package(
  name: "Kpdetect",
  platforms: [.iOS(.v15), .macOS(.v12)],
  products: [.library(name: "Kpdetect", targets: ["Kpdetect"])],
  targets: [
    .target(name: "Kpdetect"),
    .testTarget(name: "KpdetectTests", dependencies: ["Kpdetect"], resources: [.copy("golden.json")]),
  ]
)
