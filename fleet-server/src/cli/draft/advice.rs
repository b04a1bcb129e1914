//! What to do about what the engine lacks. Pure.

/// One operator and a way without it.
pub(super) fn on(operator: &str) -> &'static str {
    let (domain, name) = operator.rsplit_once('.').unwrap_or(("", operator));
    match (domain, name) {
        (_, "ZipMap") => {
            "export without it: to_onnx(…, options={'zipmap': False}) in skl2onnx, zipmap=False in onnxmltools"
        }
        (_, name) if name.contains("Sequence") || name.starts_with("Optional") => {
            "sequences and optional values cannot pass: have the model take and give plain tensors"
        }
        (_, "ImageDecoder" | "StringSplit" | "RegexFullMatch") => {
            "cut the model before it (onnx.utils.extract_model) and do this step in the program that calls"
        }
        (_, name) if name.contains("Loss") => "export for inference, without the loss",
        ("ai.onnx.preview.training", _) => "export for inference, without the optimiser",
        ("com.microsoft" | "com.microsoft.nchwc", _) => {
            "it is onnxruntime's own: export without onnxruntime's optimiser, or with ORT_ENABLE_BASIC"
        }
        ("ai.onnx.ml", _) => "leave this step out of the exported pipeline and do it in the program that calls",
        ("", _) => {
            "export with another opset, simplify (onnxsim), or cut the model there and do the step in the program"
        }
        _ => "it belongs to no standard: export the model with ONNX's own operators",
    }
}

/// What to do about an element type that cannot pass in or out.
pub(super) fn on_type(dtype: &str) -> &'static str {
    match dtype {
        "FLOAT16" | "BFLOAT16" | "FP16" => {
            "export the model in float32, or keep its inputs and outputs float32 (keep_io_types)"
        }
        "no tensor" => "sequences and maps cannot pass: have the model take and give plain tensors (zipmap=False)",
        _ => "cast it inside the model to FP32, INT64 or another type that can pass",
    }
}

/// What to do where nobody but the engine answers.
pub(super) const WITHOUT_ONNXRUNTIME: &str =
    ": install onnxruntime beside python3, or name a Python that has it with --python";

/// What to do about an error of onnxruntime's, where that is known.
pub(super) fn on_failure(error: &str) -> &'static str {
    // It takes the texts' locale from the system, where the engine has its own.
    if error.contains("construct locale") {
        ": generate the locale en_US.UTF-8 on this machine (locale-gen en_US.UTF-8, or apt-get install locales-all)"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_own_advice() {
        for (operator, words) in [
            ("ai.onnx.ml.ZipMap", "'zipmap': False"),
            ("ImageDecoder", "program that calls"),
            ("SequenceAt", "plain tensors"),
            ("com.microsoft.SoftmaxCrossEntropyLossInternal", "without the loss"),
            ("com.microsoft.QAttention", "ORT_ENABLE_BASIC"),
            ("ai.onnx.ml.DictVectorizer", "pipeline"),
            ("Attention", "another opset"),
            ("org.example.Op", "no standard"),
        ] {
            assert!(on(operator).contains(words), "{operator}: {}", on(operator));
        }
        assert!(on_type("FLOAT16").contains("float32") && on_type("no tensor").contains("zipmap"));
    }
}
