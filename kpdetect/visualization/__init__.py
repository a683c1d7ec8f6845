"""Pictures of faces on photographs (OpenCV), and plots of curves, sheets and networks (Matplotlib)."""

from kpdetect.visualization.contours import contour_edges
from kpdetect.visualization.curves import box_jitter_curve, cumulative_error_curves, learning_curves
from kpdetect.visualization.faces import BOX_RGB, CONTOUR_RGB, POINT_RGB, draw_faces
from kpdetect.visualization.figures import check_target
from kpdetect.visualization.first_layer import feature_maps_of, first_convolution
from kpdetect.visualization.layout import point_errors, scheme_page
from kpdetect.visualization.network import feature_maps, kernel_sheet
from kpdetect.visualization.sheets import TransformRow, keypoint_sheet, prediction_sheet, transform_sheet
from kpdetect.visualization.trials import setting_panels

__all__ = [
    "BOX_RGB",
    "CONTOUR_RGB",
    "POINT_RGB",
    "TransformRow",
    "box_jitter_curve",
    "check_target",
    "contour_edges",
    "cumulative_error_curves",
    "draw_faces",
    "feature_maps",
    "feature_maps_of",
    "first_convolution",
    "kernel_sheet",
    "keypoint_sheet",
    "learning_curves",
    "point_errors",
    "prediction_sheet",
    "scheme_page",
    "setting_panels",
    "transform_sheet",
]
