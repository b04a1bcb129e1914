"""Ordinary operators in forms that are less so: places counted from the back, pads that cut, vectors for matrices, steps below 1."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, DOUBLE, INT64, INT32, BOOL, UINT8, INT8 = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32,
                                                  TensorProto.BOOL, TensorProto.UINT8, TensorProto.INT8)
REFUSED = {"Einsum/uint8": "no kernel for other types than float, double, int32 and int64", "QLinearReduceMean/any": "no kernel"}


def node(operator, inputs, outputs, domain="", **attributes):
    return helper.make_node(operator, inputs.split(" "), outputs.split(" "), domain=domain, **attributes)


def fixed(m, operator, name, feeds, outputs, core=17, constants=None, inputs=None, domain="", **attributes):
    """One operator over inputs of fixed shapes; `inputs` names them where some are left out."""
    inputs = inputs or " ".join([*feeds, *(constants or {})])
    made = node(operator, inputs, " ".join(f"y{i}" for i in range(len(outputs))), domain, **attributes)
    m.graph(operator, name, [made], feeds, outputs, constants=constants, core=core, is_open=False)


def pads(m):
    x = m.floats(4, 5, seed=400)
    for mode in ("constant", "reflect", "edge", "wrap"):
        for number, pads in enumerate(([0, -1, 0, -1], [0, -1, 0, 1], [-1, 0, 1, 0], [0, 2, 0, -1], [-1, -1, -1, -1], [1, -1, 0, 2])):
            fixed(m, "Pad", f"cut_{mode}_{number}", {"x": x}, [FLOAT], 19, {"pads": np.array(pads)}, mode=mode)
        fixed(m, "Pad", f"cut_axes_{mode}", {"x": x}, [FLOAT], 19, {"pads": np.array([-1, 2]), "axes": np.array([-1])},
              inputs="x pads  axes", mode=mode)
        m.case("Pad", f"cut_rows_{mode}", {"x": m.floats(3, 2, 6, seed=401)}, [FLOAT], domain="", constants={"pads": np.array([0, 0, 2, 0, 0, -3])},
               mode=mode)
    fixed(m, "Pad", "cut_value", {"x": x.astype(np.float64)}, [DOUBLE], 13, {"pads": np.array([1, -2, 0, 1]), "value": np.array(7.5)})
    fixed(m, "Pad", "cut_ints", {"x": np.arange(6).reshape(2, 3)}, [INT64], 13, {"pads": np.array([1, -1, 0, 0]), "value": np.array(9)})
    fixed(m, "Pad", "bools", {"x": x > 0}, [BOOL], 13, {"pads": np.array([1, 0, 0, 2]), "value": np.array(True)})
    fixed(m, "Pad", "bools_default", {"x": x > 0}, [BOOL], 13, {"pads": np.array([1, 0, 0, 2])})
    fixed(m, "Pad", "ints", {"x": np.arange(6).reshape(2, 3)}, [INT64], 13, {"pads": np.array([1, 1, 0, 0])})
    for number, pads in enumerate(([0, -1, 1, 2], [1, 0, 0, 1])):
        fixed(m, "Pad", f"opset10_{number}", {"x": x}, [FLOAT], 10, pads=pads, value=1.5)


def counts(m):
    for number, (start, limit, step) in enumerate(((0, 10, .5), (0, 5, 1), (1, 2, .1), (0, 1, .1), (0, 10, 2.5), (5, 0, -1.5), (.5, 5.5, 1),
                                                   (0, -3, 1), (0, 0, .5), (1, 2.05, .1), (3, 1, .25))):
        for name, dtype in (("float", np.float32), ("double", np.float64)):
            given = {key: np.array(value, dtype) for key, value in zip("abc", (start, limit, step))}
            line = [node("Range", "a b c", "r"), node("Add", "x r", "y0")]
            rows = {"x": m.floats(3, 1, seed=410).astype(dtype)}
            kind = FLOAT if dtype == np.float32 else DOUBLE
            m.graph("Range", f"{name}_{number}", line, rows, [kind], constants=given)
    for number, (start, limit, step) in enumerate(((0, 7, 2), (5, -2, -3), (3, 1, 1), (-4, 5, 4))):
        for name, dtype in (("int64", np.int64), ("int32", np.int32)):
            given = {key: np.array(value, dtype) for key, value in zip("abc", (start, limit, step))}
            line = [node("Range", "a b c", "r"), node("Add", "x r", "y0")]
            m.graph("Range", f"{name}_{number}", line, {"x": np.array([[1], [2]], dtype)}, [m.kind(np.zeros(1, dtype))], constants=given)
    # Positions of a sequence, as transformers export them.
    positions = [node("Shape", "x", "shape"), node("Gather", "shape at", "length"), node("Cast", "length", "float", to=FLOAT),
                 node("Range", "zero float half", "r"), node("Mul", "x r", "y0")]
    m.graph("Range", "positions", positions, {"x": m.floats(3, 4, seed=411)[:, :1]}, [FLOAT],
            constants={"at": np.array(1), "zero": np.array(0, np.float32), "half": np.array(.25, np.float32)})


def places(m):
    x = m.floats(4, 3, seed=420)
    for axis in (-1, 0, 1):
        fixed(m, "OneHot", f"beyond_{axis % 3}", {"x": np.array([[0, -1], [4, 3], [-4, -5]])}, [FLOAT], 11,
              {"depth": np.array(4), "values": np.array([2, 5], np.float32)}, axis=axis)
    m.case("OneHot", "beyond_rows", {"x": np.array([0, 9, -1, 2, -7])}, [INT64], domain="",
           constants={"depth": np.array([3]), "values": np.array([0, 1])})
    m.case("OneHot", "beyond_floats", {"x": np.array([0, 1, -2, 7.0], np.float32)}, [FLOAT], domain="",
           constants={"depth": np.array(4, np.float32), "values": np.array([2, 5], np.float32)})
    m.case("OneHot", "beyond_int32", {"x": np.array([0, 9, -1], np.int32)}, [FLOAT], domain="",
           constants={"depth": np.array([3], np.int32), "values": np.array([-1, 1], np.float32)}, axis=0)
    fixed(m, "GatherND", "from_back", {"x": m.floats(2, 3, 4, seed=421)}, [FLOAT], 13, {"at": np.array([[[-1], [0]], [[1], [-3]]])}, batch_dims=1)
    fixed(m, "GatherND", "one", {"x": m.floats(2, 3, 4, seed=421)}, [FLOAT], 13, {"at": np.array([[-1, -1]])})
    fixed(m, "GatherND", "given", {"x": x, "at": np.array([[-1, 0], [3, -3], [1, 1]])}, [FLOAT], 13)
    fixed(m, "GatherND", "whole_rows", {"x": x, "at": np.array([[[-1]], [[0]]])}, [FLOAT], 13)
    fixed(m, "GatherND", "ints", {"x": np.arange(12).reshape(4, 3), "at": np.array([[-2, -1], [0, 0]])}, [INT64], 13)
    for reduction in ("none", "add", "mul", "max", "min"):
        fixed(m, "ScatterND", f"from_back_{reduction}", {"x": x, "at": np.array([[0], [0], [-1]]), "y": m.floats(3, 3, seed=422)}, [FLOAT], 18,
              reduction=reduction)
    fixed(m, "ScatterND", "constants", {"x": x, "y": m.floats(2, 3, seed=423)}, [FLOAT], 13, {"at": np.array([[-1], [-2]])}, inputs="x at y")
    fixed(m, "ScatterND", "single", {"x": x, "y": m.floats(2, seed=423)}, [FLOAT], 13, {"at": np.array([[-1, 0], [1, -1]])}, inputs="x at y")
    m.case("TopK", "opset9", {"x": m.floats(5, 9, seed=424)}, [FLOAT, INT64], domain="", core=9, axis=1, k=4)
    m.case("TopK", "opset9_last", {"x": m.floats(5, 9, seed=425)}, [FLOAT, INT64], domain="", core=8, k=2)


def products(m):
    far = np.array([[2**33, 1, -3], [2**62, 5, 7]])
    fixed(m, "MatMul", "vectors", {"a": m.floats(4, seed=430), "b": m.floats(4, seed=431)}, [FLOAT])
    fixed(m, "MatMul", "vectors_double", {"a": m.floats(4, seed=430).astype(np.float64), "b": m.floats(4, seed=431).astype(np.float64)}, [DOUBLE])
    fixed(m, "MatMul", "vectors_int64", {"a": far[0], "b": far[1]}, [INT64])
    fixed(m, "MatMul", "int64", {"a": far, "b": far.T.copy()}, [INT64])
    fixed(m, "MatMul", "int64_stack", {"a": far.reshape(1, 2, 3), "b": np.arange(24).reshape(2, 3, 4)}, [INT64])
    fixed(m, "MatMul", "int64_vector", {"a": far[0], "b": np.arange(24).reshape(2, 3, 4)}, [INT64])
    fixed(m, "MatMul", "int64_by_vector", {"a": np.arange(24).reshape(2, 4, 3), "b": far[0]}, [INT64])
    for dtype in (np.int32, np.uint32, np.uint64):
        fixed(m, "MatMul", np.dtype(dtype).name, {"a": np.arange(6).reshape(2, 3).astype(dtype), "b": np.arange(12).reshape(3, 4).astype(dtype)},
              [m.kind(np.zeros(1, dtype))])
    m.case("MatMul", "int64_rows", {"a": far}, [INT64], domain="", constants={"b": np.arange(12).reshape(3, 4)})
    equations = (("dots", "...j,jk", (2, 3, 4), (4, 5)), ("dots_wide", "...ij,...jk->...ik", (2, 1, 2, 3), (2, 5, 3, 4)),
                 ("all", "ij->", (2, 3)), ("all_implied", "ij,ij", (2, 3), (2, 3)), ("wide", "ij,ij->ij", (2, 3), (1, 3)),
                 ("wide_sum", "bij,bjk->bik", (3, 2, 4), (1, 4, 5)), ("wide_one", "ij,ij->ij", (2, 3), (1, 1)), ("trace", "ii->", (3, 3)),
                 ("diagonal", "bii->bi", (2, 3, 3)), ("spaces", " i j , j k -> k i ", (2, 3), (3, 4)), ("turned", "ba", (2, 3)),
                 ("turned_dots", "...ij->...ji", (2, 3, 4)), ("three", "ij,jk,kl->il", (2, 3), (3, 4), (4, 2)), ("outer", "i,j->ij", (2,), (3,)),
                 ("vectors", "i,i->", (4,), (4,)), ("rows", "ij->i", (3, 4)), ("attention", "bhqk,bkhd->bqhd", (2, 2, 3, 4), (2, 4, 2, 5)),
                 ("capitals", "Ij,jK->IK", (2, 3), (3, 4)), ("dots_alone", "...->...", (2, 3)), ("dots_sum", "i...->...", (2, 3, 4)))
    for name, equation, *shapes in equations:
        feeds = {f"x{i}": m.floats(*shape, seed=440 + i) for i, shape in enumerate(shapes)}
        fixed(m, "Einsum", name, feeds, [FLOAT], equation=equation)
        if name not in ("three", "outer"):
            fixed(m, "Einsum", f"{name}_double", {key: value.astype(np.float64) for key, value in feeds.items()}, [DOUBLE], equation=equation)
    fixed(m, "Einsum", "int64", {"a": far, "b": np.arange(12).reshape(3, 4)}, [INT64], equation="ij,jk->ik")
    fixed(m, "Einsum", "int32", {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "b": np.arange(3, dtype=np.int32)}, [INT32], equation="ij,j->i")
    m.case("Einsum", "open_rows", {"x": m.floats(3, 4, seed=450)}, [FLOAT], domain="", constants={"w": m.floats(4, 5, seed=451)}, equation="bi,io->bo")
    draw = m.rng(452)
    whole = lambda *shape: draw.integers(0, 255, shape).astype(np.uint8)
    less = lambda *shape: draw.integers(-120, 120, shape).astype(np.int8)
    scale, zero = lambda value: np.array(value, np.float32), lambda value, dtype: np.array(value, dtype)
    for name, a, b in (("row", (4,), (4, 5)), ("column", (3, 4), (4,)), ("vectors", (4,), (4,)), ("row_stack", (4,), (2, 4, 5)),
                       ("column_stack", (2, 3, 4), (4,))):
        given = {"p": zero(12, np.uint8), "q": zero(-3, np.int8)}
        fixed(m, "MatMulInteger", name, {"a": whole(*a), "b": less(*b)}, [INT32], 10, given)
        fixed(m, "MatMulInteger", f"{name}_plain", {"a": whole(*a), "b": less(*b)}, [INT32], 10)
        given = {"as": scale(.1), "az": zero(3, np.uint8), "bs": scale(.02), "bz": zero(0, np.int8), "cs": scale(.1), "cz": zero(100, np.uint8)}
        fixed(m, "QLinearMatMul", name, {"a": whole(*a), "b": less(*b)}, [UINT8], 10, given, inputs="a as az b bs bz cs cz")


def values(m):
    x = m.floats(2, 3, 4, seed=460)
    for operator in ("Mean", "Sum", "Max", "Min"):
        for name, shapes in (("rising", ((4,), (3, 1), (2, 3, 4))), ("falling", ((2, 3, 4), (3, 1), (4,))), ("numbers", ((), (3,))),
                             ("one", ((2, 3),))):
            feeds = {f"x{i}": np.asarray(m.floats(*shape, seed=461 + i) if shape else np.float32(.25)) for i, shape in enumerate(shapes)}
            fixed(m, operator, f"unlike_{name}", feeds, [FLOAT])
        m.case(operator, "unlike_rows", {"x": x}, [FLOAT], domain="", constants={"y": m.floats(4, seed=462), "z": np.array(.5, np.float32)})
    far = np.array([1.9, -1.9, 3e9, -7e12])
    for name, like in (("float", np.float64), ("single", np.float32), ("ints", np.int64), ("bools", np.bool_)):
        fixed(m, "CastLike", f"to_int64_{name}", {"x": far.astype(like)}, [INT64], 15, {"like": np.array([0])})
    for name, dtype in (("float", np.float64), ("single", np.float32)):
        odd = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 2.5], dtype)
        fixed(m, "CastLike", f"to_int64_{name}_odd", {"x": odd}, [INT64], 15, {"like": np.array([0])})
    fixed(m, "CastLike", "to_float", {"x": np.array([1, 2**40])}, [FLOAT], 15, {"like": np.array([0], np.float32)})
    sizes = [node("Shape", "x", "s"), node("CastLike", "s like", "t"), node("Reshape", "x t", "y0")]
    m.graph("CastLike", "sizes", sizes, {"x": m.floats(2, 3, seed=463)}, [FLOAT], constants={"like": np.array(1)})
    for alpha in (.5, 1.0, -2.0):
        m.case("Swish", f"alpha_{str(alpha).replace('.', '_').replace('-', 'm')}", {"x": m.floats(3, 4, seed=464) * 20}, [FLOAT], domain="",
               core=24, alpha=alpha)
    m.case("Swish", "plain", {"x": m.floats(3, 4, seed=464)}, [FLOAT], domain="", core=24)


def casts(m):
    odd = [0, .4, -.4, 1.9, -1.9, 127.6, 128, 255.5, 256, -129, 300, -300, 40000, -40000, 70000, 2147483646, -2147483648]
    for name, dtype in (("float", np.float32), ("double", np.float64)):
        x = np.array(odd, dtype)
        for to in (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32):
            m.case("Cast", f"{name}_to_{np.dtype(to).name}", {"x": x}, [m.kind(np.zeros(1, to))], domain="", to=m.kind(np.zeros(1, to)))
        far = np.array([np.nan, np.inf, -np.inf, 1e10, -1e10, 3e9, -3e9], dtype)
        for to in (np.uint8, np.int8, np.uint16, np.int16, np.int32):
            m.case("Cast", f"{name}_far_to_{np.dtype(to).name}", {"x": far}, [m.kind(np.zeros(1, to))], domain="", to=m.kind(np.zeros(1, to)))
        written = np.array([0, -0.0, 1, -2, 1.5, .1, 1 / 3, 1e-4, 1e-5, 1.5e-7, 123456789, 12345678, 1e7, 1e8, 1e10, 1e16, 1e17, 1.25e20, -1e30, np.nan,
                            np.inf, -np.inf, 99999999.4, 0.000123456789], dtype)
        m.case("Cast", f"{name}_to_words", {"x": written}, [m.STRING], domain="", to=m.STRING)
    m.case("Cast", "bools_to_words", {"x": np.array([True, False])}, [m.STRING], domain="", to=m.STRING)
    m.case("Cast", "ints_to_words", {"x": np.array([2**40, -3])}, [m.STRING], domain="", to=m.STRING)
    fixed(m, "CastLike", "to_uint8", {"x": np.array([-1, 300, 2.5], np.float32)}, [UINT8], 15, {"like": np.array([0], np.uint8)})


def images(m):
    for aligned in (0, 1):
        for name, size in (("column", [2, 1, 4, 1]), ("row", [2, 1, 1, 4]), ("point", [2, 3, 1, 1])):
            fixed(m, "AffineGrid", f"{name}_{aligned}", {"x": m.floats(2, 2, 3, seed=470)}, [FLOAT], 20, {"size": np.array(size)},
                  align_corners=aligned)
        fixed(m, "AffineGrid", f"cube_of_one_{aligned}", {"x": m.floats(2, 3, 4, seed=471)}, [FLOAT], 20, {"size": np.array([2, 1, 1, 2, 1])},
              align_corners=aligned)
        for mode, core in (("bicubic", 16), ("cubic", 20), ("bilinear", 16), ("nearest", 16)):
            for padding in ("zeros", "border", "reflection"):
                fixed(m, "GridSample", f"{mode}_{padding}_{aligned}", {"x": m.floats(2, 2, 4, 5, seed=472), "g": m.floats(2, 3, 4, 2, seed=473) * 1.5},
                      [FLOAT], core, mode=mode, padding_mode=padding, align_corners=aligned)
    x = m.floats(1, 2, 5, 6, seed=474)
    fixed(m, "Resize", "no_larger_region", {"x": x}, [FLOAT], 19,
          {"region": np.array([0, 0, .2, .3, 1, 1, .8, .9], np.float32), "scales": np.array([1, 1, 1.1, 1.15], np.float32)},
          mode="linear", coordinate_transformation_mode="tf_crop_and_resize")
    fixed(m, "Resize", "no_larger_smooth", {"x": x}, [FLOAT], 19, {"scales": np.array([1, 1, 1.1, 1.15], np.float32)}, inputs="x  scales",
          mode="linear", antialias=1)
    m.case("Resize", "no_larger_opset10", {"x": x}, [FLOAT], domain="", core=10, constants={"s": np.array([1, 1, 1.1, 1.15], np.float32)},
           mode="linear")
    m.case("Upsample", "no_larger", {"x": x}, [FLOAT], domain="", core=9, constants={"s": np.array([1, 1, 1.1, 1.15], np.float32)}, mode="linear")
    for mode in ("nearest", "linear", "cubic"):
        for transform in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
            fixed(m, "Resize", f"no_larger_{mode}_{transform}", {"x": x}, [FLOAT], 19, {"scales": np.array([1, 1, 1.1, 1.15], np.float32)},
                  inputs="x  scales", mode=mode, coordinate_transformation_mode=transform)
            fixed(m, "Resize", f"no_higher_{mode}_{transform}", {"x": x}, [FLOAT], 19, {"scales": np.array([1, 1, 1.1, 1.4], np.float32)},
                  inputs="x  scales", mode=mode, coordinate_transformation_mode=transform)


def forests(m):
    x, both = m.floats(19, 4, seed=480), [INT64, FLOAT]
    name = "TreeEnsembleClassifier"
    pair = m.forest(5, 3, 2, "class", seed=481)
    whole = m.forest(5, 3, 2, "class", seed=482, complete=True)
    even = m.forest(5, 3, 2, "class", seed=483, complete=True, weight=lambda draw: draw.random() / 5)
    for post in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"):
        for tag, forest in (("whole", whole), ("even", even)):
            m.case(name, f"names_{tag}_{post.lower()}", {"x": x}, both, classlabels_int64s=[10, 11], post_transform=post, **forest)
            m.case(name, f"bases_{tag}_{post.lower()}", {"x": x}, both, classlabels_int64s=[10, 11], base_values=[.3, -.1], post_transform=post,
                   **forest)
        for label in (0, 1):
            for tag, forest in (("mixed", pair), ("even", even)):
                for bases in ([.3, -.1], [.25]):
                    m.case(name, f"bases_{len(bases)}_of_{label}_{tag}_{post.lower()}", {"x": x}, both, classlabels_int64s=[10, 11],
                           base_values=bases, post_transform=post, **m.only(forest, label))
        m.case(name, f"bases_pair_{post.lower()}", {"x": x}, both, classlabels_int64s=[10, 11], base_values=[.3, -.1], post_transform=post, **pair)
    m.case(name, "names_pair", {"x": x}, both, classlabels_int64s=[-1, 1], **pair)
    m.case(name, "bases_words", {"x": x}, [m.STRING, FLOAT], classlabels_strings=["no", "yes"], base_values=[.3, -.1], **whole)
    tensor = lambda values, dtype: numpy_helper.from_array(np.asarray(values, dtype))
    for targets in (1, 2, 3):
        for post in range(5):
            m.case("TreeEnsemble", f"post_{targets}_{post}", {"x": m.floats(17, 3, seed=484)}, [FLOAT], opset=5, n_targets=targets,
                   aggregate_function=1, post_transform=post, nodes_splits=tensor([0.1, -0.4, 0.6], np.float32), nodes_featureids=[0, 1, 2],
                   nodes_modes=tensor([0, 1, 3], np.uint8), nodes_truenodeids=[1, 0, 2], nodes_falsenodeids=[2, 1, 3],
                   nodes_trueleafs=[0, 1, 1], nodes_falseleafs=[0, 1, 1], tree_roots=[0],
                   leaf_targetids=[number % targets for number in range(4)], leaf_weights=tensor([.15, .25, .35, .45], np.float32))


def quantised(m):
    draw = m.rng(490)
    whole = lambda *shape: draw.integers(0, 255, shape).astype(np.uint8)
    scale, zero = lambda value: np.array(value, np.float32), lambda value: np.array(value, np.uint8)
    for name, shape in (("rows", (3, 4)), ("images", (2, 3, 4, 2))):
        given = {"as": scale(.1), "az": zero(3), "bs": scale(.2), "bz": zero(4), "ys": scale(.1), "yz": zero(9)}
        fixed(m, "QLinearWhere", name, {"c": draw.random(shape) > .5, "a": whole(*shape), "b": whole(*shape)}, [UINT8], 17, given,
              inputs="c a as az b bs bz ys yz", domain="com.microsoft")
        fixed(m, "QLinearWhere", f"{name}_wide", {"c": draw.random(shape) > .5, "a": whole(*shape), "b": whole(1)}, [UINT8], 17, given,
              inputs="c a as az b bs bz ys yz", domain="com.microsoft")


def found_scales(m):
    for name, x in (("zeros", np.zeros((3, 4), np.float32)), ("positive", np.abs(m.floats(3, 4, seed=491)) + 1), ("mixed", m.floats(3, 400, seed=492)),
                    ("negative", -np.abs(m.floats(3, 4, seed=493)) - 1), ("one", np.array([[2.5]], np.float32)), ("deep", m.floats(2, 3, 4, 5, seed=494)),
                    ("ties", np.arange(-128, 128, dtype=np.float32).reshape(2, 128) / 2)):
        m.case("DynamicQuantizeLinear", name, {"x": x}, [UINT8, FLOAT, UINT8], domain="")


def nothing(m):
    """Calls without rows: outputs that have a row for each are empty, others are what they are."""
    x, y = m.floats(0, 3, seed=500), m.floats(5, 3, seed=501)
    pair = [node("Transpose", "b", "t", perm=[1, 0]), node("MatMul", "a t", "y0")]
    beside = [*pair, node("Neg", "b", "y1")]
    for name, nodes, a, b in (("first_of_two", pair, x, y), ("second_of_two", pair, y, x), ("beside_another", beside, x, y)):
        m.graph("Empty", name, nodes, {"a": a, "b": b}, [FLOAT] * (len(nodes) - 1))
        for value, rows in zip(m.CASES[-1][2].graph.input, "NM"):
            value.type.tensor_type.shape.dim[0].dim_param = rows
    m.graph("Empty", "turned", [node("Transpose", "x", "y0", perm=[1, 0]), node("Relu", "x", "y1")], {"x": x}, [FLOAT, FLOAT])
    m.graph("Empty", "flat", [node("Reshape", "x s", "y0"), node("Concat", "x x", "y1", axis=0)], {"x": x}, [FLOAT, FLOAT],
            constants={"s": np.array([-1])})
    for operator in ("Softmax", "ArgMax", "Relu", "ReduceMean"):
        more = {"Relu": {}, "Softmax": dict(axis=1)}.get(operator, dict(keepdims=0) | (dict(axis=1) if operator == "ArgMax" else dict(axes=[1])))
        m.graph("Empty", operator.lower(), [node(operator, "x", "y0", **more)], {"x": x}, [INT64 if operator == "ArgMax" else FLOAT])
    m.case("Empty", "chosen", {"x": x}, [FLOAT, INT64], domain="", constants={"k": np.array([2])}, axis=1)
    operator, name, made, feeds = m.CASES.pop()
    made.graph.node[0].op_type = "TopK"
    m.CASES.append((operator, name, made, feeds))


def functions(m):
    """Models that bring functions along."""
    x = m.floats(3, 4, seed=510)
    own = lambda version=17: [helper.make_opsetid("", version)]

    def bring(name, nodes, made, feeds, outputs, constants=None):
        m.graph("Function", name, nodes, feeds, outputs, constants=constants)
        model = m.CASES[-1][2]
        model.functions.extend(made)
        for domain in sorted({function.domain for function in made}):
            model.opset_import.append(helper.make_opsetid(domain, 1))

    twice = helper.make_function("mine", "Twice", ["a"], ["b"], [node("Add", "a a", "b")], own())
    bring("twice", [node("Twice", "x", "y0", "mine")], [twice], {"x": x}, [FLOAT])
    bring("twice_twice", [node("Twice", "x", "h", "mine"), node("Twice", "h", "y0", "mine")], [twice], {"x": x}, [FLOAT])
    four = helper.make_function("mine", "Four", ["b"], ["a"], [node("Twice", "b", "c", "mine"), node("Twice", "c", "a", "mine")],
                                [*own(), helper.make_opsetid("mine", 1)])
    bring("nested", [node("Four", "x", "y0", "mine")], [twice, four], {"x": x}, [FLOAT])
    leaky = node("LeakyRelu", "a", "b")
    given = helper.make_attribute_ref("alpha", onnx.AttributeProto.FLOAT)
    given.ref_attr_name = "slope"
    leaky.attribute.append(given)
    slope = helper.make_function("mine", "Slope", ["a"], ["b"], [leaky], own(), attributes=["slope"])
    bring("attribute", [node("Slope", "x", "y0", "mine", slope=.25)], [slope], {"x": x}, [FLOAT])
    bring("attribute_left_out", [node("Slope", "x", "y0", "mine")], [slope], {"x": x}, [FLOAT])
    default = helper.make_function("mine", "Slope", ["a"], ["b"], [leaky], own(), attribute_protos=[helper.make_attribute("slope", .5)])
    bring("attribute_default", [node("Slope", "x", "y0", "mine")], [default], {"x": x}, [FLOAT])
    bring("attribute_over_default", [node("Slope", "x", "y0", "mine", slope=.125)], [default], {"x": x}, [FLOAT])
    layer = helper.make_function("pkg.torch", "Linear", ["x", "w", "b"], ["y", "sum"],
                                 [node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "x t", "p"), node("Add", "p b", "y"),
                                  node("ReduceSum", "y", "sum", keepdims=0)], own())
    weights = {"w": m.floats(5, 4, seed=511), "b": m.floats(5, seed=512), "v": m.floats(2, 5, seed=513), "c": m.floats(2, seed=514)}
    bring("layers", [node("Linear", "x w b", "h dead", "pkg.torch"), node("Relu", "h", "r"), node("Linear", "r v c", "y0 y1", "pkg.torch")], [layer],
          {"x": x}, [FLOAT, FLOAT], constants=weights)
    clipped = helper.make_function("mine", "Clipped", ["a", "low", "high"], ["b"], [node("Clip", "a low high", "b")], own())
    bring("input_left_out", [node("Clipped", "x  high", "y0", "mine")], [clipped], {"x": x}, [FLOAT],
          constants={"high": np.array(.25, np.float32)})
    value = lambda name: helper.make_tensor_value_info(name, FLOAT, None)
    branches = [helper.make_graph([node(operator, "a", "r")], operator, [], [value("r")]) for operator in ("Relu", "Neg")]
    chosen = helper.make_function("mine", "Chosen", ["a", "c"], ["b"], [node("If", "c", "b", then_branch=branches[0], else_branch=branches[1])], own())
    bring("branches", [node("Chosen", "x c", "y0", "mine")], [chosen], {"x": x}, [FLOAT], constants={"c": np.array(False)})
    shared = [helper.make_graph([node("Twice", "x", "r", "mine")], "twice", [], [value("r")]),
              helper.make_graph([node("Neg", "x", "r")], "neg", [], [value("r")])]
    bring("in_a_branch", [node("If", "c", "y0", then_branch=shared[0], else_branch=shared[1])], [twice], {"x": x}, [FLOAT],
          constants={"c": np.array(True)})


def halves(m):
    """Floats of 16 bits as inputs and outputs."""
    x, half = m.floats(3, 4, seed=520).astype(np.float16), TensorProto.FLOAT16
    m.graph("Half", "relu", [node("Relu", "x", "y0")], {"x": x}, [half])
    m.graph("Half", "product", [node("MatMul", "x w", "p"), node("Add", "p b", "y0")], {"x": x}, [half],
            constants={"w": m.floats(4, 5, seed=521).astype(np.float16), "b": m.floats(5, seed=522).astype(np.float16)})
    m.graph("Half", "cast_inside", [node("Cast", "x", "f", to=FLOAT), node("Exp", "f", "y0")], {"x": x}, [FLOAT])
    m.graph("Half", "one_of_two", [node("Cast", "z", "h", to=half), node("Mul", "x h", "y0"), node("Neg", "y0", "y1")],
            {"x": x, "z": m.floats(3, 4, seed=523)}, [half, half])
    m.graph("Half", "chosen", [node("TopK", "x k", "y0 y1", axis=1)], {"x": x}, [half, INT64], constants={"k": np.array([2])})
    value = helper.make_tensor_value_info("r", half, None)
    branches = [helper.make_graph([node(operator, "x", "r")], operator, [], [value]) for operator in ("Relu", "Neg")]
    m.graph("Half", "in_a_branch", [node("If", "c", "y0", then_branch=branches[0], else_branch=branches[1])], {"x": x}, [half],
            constants={"c": np.array(True)})
    large = np.array([[65504, -65504, 6e-8, np.inf]], np.float16)
    m.graph("Half", "ends", [node("Neg", "x", "y0")], {"x": large}, [half])


def add(m):
    for make in (pads, counts, places, products, values, casts, images, forests, quantised, found_scales, nothing, functions, halves):
        make(m)
