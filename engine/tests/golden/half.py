"""Graphs of 16-bit floats, which onnxruntime computes in 32 where it has no kernel of 16: where it rounds and where it does not."""
import numpy as np
from onnx import TensorProto, helper

FLOAT, DOUBLE, HALF, INT64, INT32 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32
REFUSED = {}
KINDS = {"up": ("Cast", {"to": FLOAT}), "down": ("Cast", {"to": HALF}), "double": ("Cast", {"to": DOUBLE}), "whole": ("Cast", {"to": INT64})}


def chain(text):
    """Nodes from `Operator a b > y` separated by `;`, attributes in brackets."""
    nodes = []
    for part in text.split(";"):
        made, outputs = part.split(">")
        operator, *inputs = made.split()
        operator, _, given = operator.partition("(")
        attributes = eval(f"dict({given}") if given else {}
        operator, more = KINDS.get(operator, (operator, {}))
        nodes.append(helper.make_node(operator, inputs, outputs.split(), **attributes, **more))
    return nodes


def add(m):
    x = m.floats(4, 8, seed=700)
    half = lambda *shape, seed: m.floats(*shape, seed=seed).astype(np.float16)
    constants = {"W": half(4, 8, seed=701), "G": 1 + half(8, seed=702) / 4, "K": np.array(1000, np.float16), "ONE": np.array(1, np.float16),
                 "LO": np.array(.1, np.float16), "HI": np.array(2, np.float16), "SH": np.array([2, 16]), "M": half(8, 6, seed=703),
                 "B": half(6, seed=704), "F": m.floats(8, 6, seed=705), "TOP": np.array([8]), "BIG": np.array(10000, np.float32),
                 "HALF": np.array([4, 4]), "WT": half(6, 8, seed=706)}

    def case(name, text, feeds=None, outputs=(FLOAT,), **options):
        nodes = chain(text)
        read = {name for made in nodes for name in made.input}
        m.graph("Half", name, nodes, feeds or {"x": x}, list(outputs), constants={key: value for key, value in constants.items() if key in read},
                is_open=False, **({"core": 20} | options))

    case("dense", "down x > h; Gemm h M B > g; Relu g > r; up r > y0")
    case("cast_and_back", "Neg x > n; down n > h; up h > k; Neg k > y0")
    case("moved", "down x > h; Transpose h > t; up t > y0")
    case("moved_once_made", "down x > h; Exp h > r; Transpose r > t; up t > y0")
    case("moved_between", "down x > h; Exp h > r; Transpose r > t; Exp t > u; up u > y0")
    case("moved_twice_between", "down x > h; Exp h > r; Transpose r > t; Reshape t SH > q; Exp q > u; up u > y0", core=13)
    case("back_by_the_file", "down x > h; Exp h > r; up r > k; Neg k > y0")
    case("moved_beside", "down x > h; Exp h > r; Transpose h > t; Transpose t > u; Add r u > a; up a > y0")
    case("moved_and_back", "down x > h; Exp h > r; Transpose r > t; Transpose t > u; up r > k; up u > l; Sub k l > y0")
    case("to_whole", "down x > h; Mul h K > r; whole r > i; up i > y0")
    case("from_whole", "Mul x BIG > r; whole r > i; down i > h; Neg h > z; up z > y0")
    case("from_double", "double x > d; down d > h; Neg h > z; up z > y0")
    case("bounded_between", "down x > h; Exp h > r; Clip r LO HI > k; Exp k > z; up z > y0")
    case("bounded", "down x > h; Exp h > r; Clip r LO HI > k; up k > y0")
    case("greatest", "down x > h; Exp h > r; Max r ONE > k; up k > y0")
    case("joined_between", "down x > h; Exp h > r; Concat(axis=0) r W > k; Exp k > z; up z > y0")
    case("normalised", "down x > h; LayerNormalization h G > k; up k > y0")
    case("normalised_on", "down x > h; LayerNormalization h G > k; Exp k > z; up z > y0")
    case("normalised_between", "down x > h; Exp h > r; LayerNormalization r G > k; Exp k > z; up z > y0")
    case("split_between", "down x > h; Exp h > r; Split(axis=1) r HALF > a b; Exp a > p; Neg b > q; Add p q > w; up w > y0")
    case("picked", "down x > h; Exp h > r; Greater r ONE > c; Where c r h > w; up w > y0")
    case("sorted", "down x > h; Exp h > r; TopK r TOP > i j; up i > y0")
    case("weights_narrowed", "down F > n; down x > h; MatMul h n > p; up p > y0")
    case("weights_widened", "up M > n; MatMul x n > y0")
    case("weights_turned", "Transpose WT > n; down x > h; MatMul h n > p; up p > y0")
    case("like", "CastLike x W > h; Exp h > e; up e > y0")
    h = half(4, 8, seed=710)
    case("in_and_out", "Exp x > e; Softmax e > y0", {"x": h}, [HALF])
    case("in_joined", "Exp x > e; Concat(axis=0) e x > k; Exp k > y0", {"x": h}, [HALF])
    case("out_and_on", "Exp x > y0; Sqrt y0 > y1", {"x": h}, [HALF, HALF])
    case("out_moved", "Exp x > e; Transpose e > y0; Sqrt e > y1", {"x": h}, [HALF, HALF])
    case("shape", "Exp x > e; Shape e > y0; ArgMax(axis=1) e > y1", {"x": h}, [INT64, INT64])
    case("reduced", "ReduceMean(axes=[1]) x > e; Sub x e > d; Mul d d > s; ReduceMean(axes=[1]) s > v; Sqrt v > r; Div d r > y0", {"x": h}, [HALF], core=17)
    case("shrunk", "Shrink(bias=0.1,lambd=0.3) x > y0", {"x": h}, [HALF])
    case("too_large", "Mul x K > a; Mul a K > b; Div b K > y0", {"x": h}, [HALF])
    case("too_large_moved", "Mul x K > a; Mul a K > b; Transpose b > t; Div t K > y0", {"x": h}, [HALF])
    image = {"x": half(2, 3, 7, 7, seed=711)}
    constants |= {"W": half(4, 3, 3, 3, seed=712), "B": half(4, seed=713), "S": 1 + half(4, seed=714) / 9, "V": 1 + abs(half(4, seed=715))}
    case("conv", "Conv x W B > c; BatchNormalization c S B B V > n; Relu n > r; GlobalAveragePool r > p; Flatten p > y0", image, [HALF])
    case("pooled", "Conv x W B > c; MaxPool(kernel_shape=[2,2]) c > p; AveragePool(kernel_shape=[2,2]) p > a; Sigmoid a > y0", image, [HALF])
    constants |= {"LW": half(1, 20, 3, seed=716), "LR": half(1, 20, 5, seed=717)}
    case("recurrent", "LSTM(hidden_size=5) x LW LR > y y0 c; Identity c > y1", {"x": half(6, 2, 3, seed=718)}, [HALF, HALF])
    value = helper.make_tensor_value_info("r", HALF, None)
    branches = [helper.make_graph(chain(f"{text} > r"), "branch", [], [value]) for text in ("Exp e > s; Sqrt s", "Neg e")]
    inner = helper.make_node("If", ["c"], ["i"], then_branch=branches[0], else_branch=branches[1])
    m.graph("Half", "in_a_branch_on", [*chain("Exp x > e"), inner, *chain("Sqrt i > y0")], {"x": h}, [HALF], constants={"c": np.array(True)}, is_open=False)
