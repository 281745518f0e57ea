"""What every `--help` ends with: command lines to copy.  A test holds each against the options that exist."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (
        ("snn-energy train digits-statten --out run", "minutes, on one core"),
        ("snn-energy train digits-statten --out run6 epochs=20 T=6 chunk_size=3", "the recipe, changed"),
        ("snn-energy train --resume --out run", "go on where it stopped"),
        ("snn-energy train fashion-statten", "from apt's dataset-fashion-mnist"),
        ("snn-energy train statten-cifar10-512 --data-dir cifar10", "as the STAtten paper did"),
        ("snn-energy train -c 2_512_200E_t4.yml --data-dir cifar10", "the official file, as it is"),
    ),
    "sweep": (
        ("snn-energy sweep digits-statten lr=0.003,0.01 T=2,4 epochs=3", "all four; accuracy beside energy"),
        ("snn-energy sweep digits-statten lr=0.001..0.1 T=2,4 --trials 20", "drawn by Optuna"),
    ),
    "profile": (
        ("snn-energy profile digits-statten", "a trained network that comes with the package"),
        ("snn-energy profile run/best.pth", "on the checkpoint's own data set"),
        (
            "snn-energy profile checkpoint-0.pth.tar --input samples.npz --out p",
            "arrays x and, with labels, y",
        ),
        ("snn-energy profile run/best.pth --convention all --overwrite", "every way of counting"),
        (
            "snn-energy profile net.pth --model net.py:build --set T=4 --input x.npz --layout TB",
            "your network",
        ),
        ("snn-energy profile run/best.pth --json --quiet | jq '.totals[0].mj'", "for a program"),
    ),
    "evaluate": (
        ("snn-energy evaluate run/best.pth", "accuracy and loss, and accuracy after each step"),
        ("snn-energy evaluate run/best.pth --rates --confusion mistakes.csv", "layers per step; classes"),
        ("snn-energy evaluate net.pth.tar --data imagenet:DIR --size 288 --val-crop 1.0", "as papers do"),
        (
            "snn-energy evaluate net.pth --model net.py:build --input x.npz --json",
            "your network, for a program",
        ),
    ),
    "export": (
        ("snn-energy export run/best.pth --target onnx --out onnx", "verified in onnxruntime"),
        ("snn-energy export run/best.pth --target lava --out lava --samples 20", "verified in the simulator"),
        (
            "snn-energy export run/best.pth --target netlist --require-fit loihi2",
            "exit code 1 if it does not fit",
        ),
    ),
    "verify": (
        ("snn-energy verify onnx", "again, on the samples that the export keeps"),
        ("snn-energy verify onnx --input other.npz", "on others"),
        ("snn-energy verify lava --runtime lava", "in Lava itself (make lava-env)"),
    ),
    "report": (
        ("snn-energy report profile --out report.html", "without the network, without PyTorch"),
        ("snn-energy report profile --exports onnx --exports lava", "with what the exports said"),
        ("snn-energy report dense pruned --out compare.html", "several profiles beside each other"),
        ("snn-energy report profile --figures figures --tables tables", "for a paper"),
    ),
    "diff": (
        ("snn-energy diff before after", "layer by layer, where they differ"),
        ("snn-energy diff before after --json | jq .ratio", "for a program"),
    ),
    "check": (
        ("snn-energy check profile --max-energy 20uJ --min-accuracy .9 --no-uncounted", "exit code 1 if not"),
        ("snn-energy check profile --max-rate .2 --max-layer-rate .5", "of all neurons, of each layer"),
    ),
    "reproduce": (
        ("snn-energy reproduce", "every published table that is known"),
        ("snn-energy reproduce spikformer --format markdown", "one of them"),
    ),
    "audit": (
        ("snn-energy audit table.csv", "which formula made these numbers?"),
        ("snn-energy audit table.csv --json", "for a program"),
    ),
    "list": (
        ("snn-energy list", "everything"),
        ("snn-energy list models 'statten*'", "the models whose names begin so"),
        ("snn-energy list costs", "prices, with technology node and source"),
    ),
    "doctor": (
        ("snn-energy doctor", "what is here, what is missing, what brings it"),
        ("snn-energy doctor --json", "to attach to a question"),
    ),
    "demo": (
        ("snn-energy demo", "writes demo/report.html"),
        ("snn-energy demo --train --out my-demo", "trains the network first"),
    ),
}


def epilog(command: str) -> str:
    """The end of a command's help."""
    lines = [f"  {line}\n      {words}" for line, words in EXAMPLES.get(command, ())]
    return "\n".join(["Examples:", *lines]).replace("[", "\\[") if lines else ""


EXIT_CODES = (
    "Exit codes: 0 done, or the answer is yes; 1 the answer is no (a verification that differs, a chip "
    "that is too small, something that doctor misses); 2 an error, in one line on standard error."
)
