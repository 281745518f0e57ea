"""`snn-energy export` and `snn-energy verify`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from snn_energy.cli.loading import Loaded, frames_of, load_model, running
from snn_energy.cli.options import (
    Checkpoint,
    DataName,
    InputFile,
    SampleCount,
    with_contract_flags,
    with_model_flags,
)
from snn_energy.cli.out import echo
from snn_energy.cli.waiting import import_torch
from snn_energy.errors import ConfigError, suggest
from snn_energy.files import try_folder

LavaPython = Annotated[
    Path | None, typer.Option("--python", help="lava: the Python of a Lava environment (make lava-env).")
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine", help="netlist, lava: what runs the netlist: c, numpy; by default whichever pays."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an export that lies in the folder.")]
RequireFit = Annotated[
    str | None,
    typer.Option(
        "--require-fit",
        help="netlist, lava, sanafe, c: exit 1 unless it fits this chip or part, e.g. loihi2.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the verdict and the chips' answers as JSON.")]


@with_contract_flags
@with_model_flags
def export(
    overrides: dict[str, Any],
    declared: dict[str, Any],
    checkpoint: Checkpoint = None,
    target: Annotated[str, typer.Option("--target", help="snn-energy list targets")] = "onnx",
    data: DataName = None,
    input_file: InputFile = None,
    samples: SampleCount = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder. Default: TARGET/ here.")] = None,
    form: Annotated[
        str | None, typer.Option("--form", help="onnx: multi-step (all T in one call) or single-step.")
    ] = None,
    quantize: Annotated[
        str | None, typer.Option("--quantize", help="onnx: int8, beside the float file.")
    ] = None,
    debug_outputs: Annotated[
        bool | None,
        typer.Option("--debug-outputs", help="onnx: every neuron's spikes as further outputs."),
    ] = None,
    bits: Annotated[int | None, typer.Option("--bits", help="lava: bits of a weight, 8 by default.")] = None,
    lava_samples: Annotated[
        int | None,
        typer.Option("--lava-samples", help="lava: run the first N samples in the real runtime too."),
    ] = None,
    sanafe_samples: Annotated[
        int | None, typer.Option("--sanafe-samples", help="sanafe: run the first N samples; 2 by default.")
    ] = None,
    mcu: Annotated[
        list[str] | None,
        typer.Option("--mcu", help="c: also run it under QEMU on cortex-m4, cortex-m7 or riscv32."),
    ] = None,
    mcu_samples: Annotated[
        int | None,
        typer.Option("--mcu-samples", help="c: samples that a microcontroller runs; 4 by default."),
    ] = None,
    engine: Engine = None,
    python: LavaPython = None,
    overwrite: Overwrite = False,
    require_fit: RequireFit = None,
    json: AsJson = False,
) -> None:
    """Export a network and verify it on real samples in the runtime that will run it."""
    from snn_energy.cli.answers import check_require_fit, show
    from snn_energy.exporters.chip.calibrate import CALIBRATION_SAMPLES
    from snn_energy.exporters.targets import TARGETS
    from snn_energy.exporters.targets import export as run
    from snn_energy.exporters.targets import options as options_of
    from snn_energy.exporters.verification import Source

    if target not in TARGETS:
        raise ConfigError(f"unknown target {target!r}; {suggest(target, TARGETS)}")
    from snn_energy.profiling.contract import Declared
    from snn_energy.samples import choose_samples

    check_require_fit(target, require_fit)
    import_torch()
    folder = out or Path(target)
    try_folder(folder)
    loaded = load_model(checkpoint, overrides)
    for note in loaded.notes:
        echo(f"note: {note}", err=True)
    axis = Declared(layout=declared.get("layout")).batch_axis
    chosen = choose_samples(
        loaded.recipe,
        data=data,
        input_file=input_file,
        count=samples,
        batch_axis=axis,
        frames=frames_of(loaded),
    )
    x, y = chosen.images.batch(slice(None))
    options = _declared(target, declared, loaded) | given(
        form=form,
        quantize=quantize,
        debug_outputs=debug_outputs,
        bits=bits,
        lava_samples=lava_samples,
        sanafe_samples=sanafe_samples,
        mcu=mcu,
        mcu_samples=mcu_samples,
        engine=engine,
        python=python,
    )
    if "class_names" in options_of(target):
        options["class_names"] = list(chosen.class_names or loaded.class_names) or None
    source = Source(
        data or (loaded.recipe or {}).get("data"),
        batch_axis=axis,
        frames=frames_of(loaded),
        origin=dict(loaded.origin),
    )
    if chosen.training is not None and "calibration" in options_of(target):
        seen = chosen.training.take(min(CALIBRATION_SAMPLES, len(chosen.training.images)))
        options["calibration"] = seen.images.batch(slice(None))[0]
        source = dataclasses.replace(source, calibration=seen.name)
    with running(loaded):
        verdict = run(loaded.model, target, folder, x=x, y=y, overwrite=overwrite, source=source, **options)
    show(verdict, folder, require_fit=require_fit, as_json=json)


def verify(
    folder: Annotated[Path, typer.Argument(help="What `snn-energy export` wrote.")],
    data: DataName = None,
    input_file: InputFile = None,
    samples: SampleCount = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime",
            help="lava: simulator (default), lava; nir: nir (default), spikingjelly, snntorch, norse, "
            "sinabs; c: c (default), simulator, cortex-m4, cortex-m7, riscv32.",
        ),
    ] = None,
    engine: Engine = None,
    python: LavaPython = None,
) -> None:
    """Verify an exported folder again, on the samples it keeps or on others."""
    from snn_energy.cli.answers import c_lines
    from snn_energy.exporters.mcu.parts import BoardPart, CPart
    from snn_energy.exporters.targets import verify as run
    from snn_energy.exporters.verification import check_files
    from snn_energy.samples import choose_samples

    import_torch()
    remembered = check_files(folder)["parts"].get("source", {})
    x = y = None
    if data is not None or input_file is not None or samples is not None:
        chosen = choose_samples(
            remembered,
            data=data,
            input_file=input_file,
            count=samples,
            batch_axis=remembered.get("batch_axis"),
            frames=remembered.get("frames"),
        )
        x, y = chosen.images.batch(slice(None))
    verdict = run(folder, x=x, y=y, **given(runtime=runtime, python=python, engine=engine))
    echo(verdict.require().summary())
    for line in c_lines(verdict.part(CPart), verdict.part(BoardPart)):
        echo(line)


def _declared(target: str, declared: dict[str, Any], loaded: Loaded) -> dict[str, Any]:
    """What the user declared of the network, as far as a target takes it.  Raises `ConfigError` beyond that.

    The layout also says how samples are read, so it is never refused.
    """
    from snn_energy.exporters.targets import options as options_of

    taken = options_of(target)
    for name in declared:
        if name not in taken and name not in ("layout", "check"):
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"{flag}: target {target} reads it off the network itself; leave it out")
    told = {name: value for name, value in declared.items() if name in taken}
    return told | given(time_steps=loaded.time_steps)


def given(**options: Any) -> dict[str, Any]:
    """The options that the user gave; the rest keep the target's own defaults."""
    return {name: value for name, value in options.items() if value is not None}
