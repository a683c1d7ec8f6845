/** Changes the input size of a fully convolutional TFLite file, whose shapes LiteRT.js cannot change at run time. */

/** Vtable offsets of fields in the tables of TensorFlow Lite's schema.fbs. */
const MODEL_SUBGRAPHS = 8;
const MODEL_BUFFERS = 12;
const GRAPH_TENSORS = 4;
const GRAPH_INPUTS = 6;
const GRAPH_OPERATORS = 10;
const OPERATOR_INPUTS = 6;
const OPERATOR_OUTPUTS = 8;
const TENSOR_SHAPE = 4;
const TENSOR_BUFFER = 8;
const BUFFER_DATA = 4;

/**
 * A copy of a file with another input height and width. The file has fixed shapes; each layer's extent is a power of two
 * smaller than the input's, plus a constant padding.
 *
 * @param file a TFLite file of one subgraph, with the input (1, H, W, C)
 */
export function withInputSize(file: Uint8Array, width: number, height: number): Uint8Array {
  const copy = file.slice();
  const view = new DataView(copy.buffer);
  const table = (at: number) => at + view.getUint32(at, true);
  const field = (start: number, offset: number): number => {
    const vtable = start - view.getInt32(start, true);
    const place = offset < view.getUint16(vtable, true) ? view.getUint16(vtable + offset, true) : 0;
    return place === 0 ? 0 : start + place;
  };
  const vector = (start: number, offset: number): { first: number; length: number } => {
    const place = field(start, offset);
    if (place === 0) return { first: 0, length: 0 };
    const at = table(place);
    return { first: at + 4, length: view.getUint32(at, true) };
  };
  const model = table(0);
  const graph = table(vector(model, MODEL_SUBGRAPHS).first);
  const buffers = vector(model, MODEL_BUFFERS);
  const tensors = vector(graph, GRAPH_TENSORS);
  const input = view.getInt32(vector(graph, GRAPH_INPUTS).first, true);
  const shapeOf = (index: number) => vector(table(tensors.first + 4 * index), TENSOR_SHAPE);
  const [oldHeight, oldWidth] = [1, 2].map((axis) => view.getInt32(shapeOf(input).first + 4 * axis, true));
  const constant = new Set<number>();
  for (let index = 0; index < tensors.length; index++) {
    const place = field(table(tensors.first + 4 * index), TENSOR_BUFFER);
    const buffer = place === 0 ? 0 : view.getUint32(place, true);
    if (vector(table(buffers.first + 4 * buffer), BUFFER_DATA).length > 0) constant.add(index);
  }
  const operators = vector(graph, GRAPH_OPERATORS);
  const indices = ({ first, length }: { first: number; length: number }) =>
    Array.from({ length }, (_, i) => view.getInt32(first + 4 * i, true));
  for (let i = 0; i < operators.length; i++) {
    // Weights of 16 bits become floats by operators of their own.
    const operator = table(operators.first + 4 * i);
    const given = indices(vector(operator, OPERATOR_INPUTS));
    if (given.every((index) => constant.has(index))) indices(vector(operator, OPERATOR_OUTPUTS)).forEach((index) => constant.add(index));
  }
  for (let index = 0; index < tensors.length; index++) {
    const shape = shapeOf(index);
    if (constant.has(index) || shape.length !== 4) continue;
    view.setInt32(shape.first + 4, resized(view.getInt32(shape.first + 4, true), oldHeight, height), true);
    view.setInt32(shape.first + 8, resized(view.getInt32(shape.first + 8, true), oldWidth, width), true);
  }
  return copy;
}

/** A layer's extent for another input extent. */
function resized(extent: number, input: number, newInput: number): number {
  const stride = 2 ** Math.round(Math.log2(input / extent));
  return newInput / stride + extent - input / stride;
}
