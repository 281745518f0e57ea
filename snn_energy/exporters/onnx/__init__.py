"""ONNX: a captured network as one file, run and compared in onnxruntime."""
