"""A sweep as an Optuna study: who trains what next, what came of it, and what a dead process left undone.

The study is the one place where a sweep lives.  Processes, on one machine or many, that open the same storage
take trials from it until none is left; each writes its own folder of runs.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_energy.errors import ConfigError, FileError, Interrupted, MissingDependency, SnnEnergyError
from snn_energy.models.zoo import find, make_config
from snn_energy.sweep.space import Range, Space
from snn_energy.training import Recipe, Step, load_recipe, train

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

DIRECTIONS = ("maximize", "minimize")
BEAT, DEAD = 20.0, 600.0
"""Seconds between a running trial's signs of life, and without one until others take it for dead."""
PLANNED = "planned"
MEASURED = {"accuracy", "test_accuracy", "nanojoules", "accumulates", "epoch", "seconds", "note"}


@dataclass(frozen=True)
class Outcome:
    """One trial: its settings as written, its state, and what came of it, None where nothing did yet.

    `accuracy` is on the part that chooses the best epoch, `test_accuracy` on the test part in that epoch;
    `nanojoules` and `accumulates` are of one inference of its checkpoint, under the `exact` convention.
    `folder`: of its run, in the folder of whoever trained it.  `pareto`: no finished trial is better in one
    of accuracy and energy and no worse in the other.
    """

    number: int
    settings: dict[str, str]
    state: str
    accuracy: float | None = None
    test_accuracy: float | None = None
    nanojoules: float | None = None
    accumulates: float | None = None
    epoch: int | None = None
    seconds: float | None = None
    where: str = ""
    folder: str = ""
    note: str = ""
    pareto: bool = False

    @property
    def point(self) -> tuple[float, float] | None:
        """Accuracy and energy, where both are known."""
        if self.accuracy is None or self.nanojoules is None:
            return None
        return self.accuracy, self.nanojoules


class Sweep:
    """A recipe, what to try with it, and the study that remembers.

    `storage`: an Optuna URL (`sqlite:///FILE`, `mysql://…`, `postgresql://…`) or `journal:FILE` for a folder
    that machines share.  `trials`: how many to draw, by Optuna's multi-objective sampler; None: every
    combination.  Raises `ConfigError` for settings that a recipe cannot have, before anything is run, and
    where the study holds another sweep; `MissingDependency` without Optuna.
    """

    def __init__(
        self,
        recipe: str,
        space: Space,
        out: Path,
        *,
        storage: str | None = None,
        study: str | None = None,
        trials: int | None = None,
        samples: int | None = None,
        device: str = "auto",
    ) -> None:
        self.recipe, self.space, self.out = recipe, space, out
        self.trials, self.samples, self.device = trials, samples, device
        if space.ranges and trials is None:
            raise ConfigError(
                f"{next(iter(space.ranges))}: a range has no end of values; say how many --trials"
            )
        self._check()
        out.mkdir(parents=True, exist_ok=True)
        self.study = _open(storage or f"sqlite:///{out / 'sweep.db'}", study or load_recipe(recipe).name)
        self._agree()

    def _check(self) -> None:
        """Every combination of choices as a recipe; of ranges both ends."""
        for chosen in self.space.combinations():
            for end in ("low", "high"):
                ends = {key: _written(getattr(r, end), r) for key, r in self.space.ranges.items()}
                recipe = self.recipe_of(chosen | ends)
                entry = find(recipe.model)
                try:
                    make_config(entry.resolve().Config, {**entry.fields, **recipe.config})
                except ConfigError as error:
                    words = " ".join(f"{key}={value}" for key, value in (chosen | ends).items())
                    raise ConfigError(f"{words}: {error}") from None

    def recipe_of(self, settings: dict[str, str]) -> Recipe:
        """The recipe of a trial."""
        return load_recipe(self.recipe, (*self.space.fixed, *(f"{k}={v}" for k, v in settings.items())))

    def _agree(self) -> None:
        """Write down in a new study what it is of; in an old one it must be the same."""
        mine = {"recipe": self.recipe, **self.space.described(), "samples": self.samples}
        held = self.study.user_attrs.get("sweep")
        if held is None:
            self.study.set_user_attr("sweep", mine)
        elif held != mine:
            differs = next(key for key in mine if held.get(key) != mine[key])
            raise ConfigError(
                f"study {self.study.study_name!r} holds another sweep, whose {differs} is "
                f"{held.get(differs)!r}, not {mine[differs]!r}; give another --study, or the same words"
            )
        if self.trials is None:
            for chosen in self.space.combinations():
                self.study.enqueue_trial(chosen, user_attrs={PLANNED: True}, skip_if_exists=True)

    # -- running --------------------------------------------------------------------------------------------

    def run(
        self,
        on_trial: Callable[[Outcome], None] = lambda outcome: None,
        on_step: Callable[[int, Step], None] = lambda number, step: None,
    ) -> None:
        """Take trials until none is left; `on_trial` gets each when it is done, `on_step` its steps.

        A trial whose training fails is kept as failed, with the reason.  Ctrl-C gives the one that runs back.
        """
        while (trial := self._next()) is not None:
            self._run(trial, on_step)
            on_trial(next(o for o in self.outcomes() if o.number == trial.number))

    def _next(self) -> Trial | None:
        """The next trial of ours, marked as running here; None when all are taken."""
        self._revive()
        if self.trials is not None:
            states = [t.state.name for t in self.study.get_trials(deepcopy=False)]
            waiting = "WAITING" in states
            if not waiting and sum(state in ("COMPLETE", "RUNNING") for state in states) >= self.trials:
                return None
            return self._begin(self.study.ask(self._distributions()))
        while any(t.state.name == "WAITING" for t in self.study.get_trials(deepcopy=False)):
            trial = self.study.ask(self._distributions())
            if not trial.user_attrs.get(PLANNED):  # another process took the last one at this moment
                self._give_up(trial, "nothing was left")
            elif self._doubled(trial):
                self._give_up(trial, "planned twice")
            else:
                return self._begin(trial)
        return None

    def _begin(self, trial: Trial) -> Trial:
        for key, value in (("host", socket.gethostname()), ("pid", os.getpid()), ("beat", time.time())):
            trial.set_user_attr(key, value)
        return trial

    def _give_up(self, trial: Trial, why: str) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr("surplus", why)
        self.study.tell(trial, state=TrialState.FAIL)

    def _doubled(self, trial: Trial) -> bool:
        """Two processes that begin a study at one moment may both plan it."""
        return any(
            t.number < trial.number and t.params == trial.params and t.state.name in ("RUNNING", "COMPLETE")
            for t in self.study.get_trials(deepcopy=False)
        )

    def _revive(self) -> None:
        """Plan anew what processes that are gone have left."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not _dead(trial):
                continue
            try:
                self.study.tell(trial.number, state=TrialState.FAIL)
            except ValueError:  # another process was faster
                continue
            self._again(trial)

    def _again(self, trial: FrozenTrial | Trial) -> None:
        """Plan the same once more; who finds its folder goes on with the run in it."""
        folder = trial.user_attrs.get("folder", trial.number)
        self.study.enqueue_trial(dict(trial.params), user_attrs={PLANNED: True, "folder": folder})

    def _run(self, trial: Trial, on_step: Callable[[int, Step], None]) -> None:
        from optuna.trial import TrialState

        beat = time.monotonic()

        def step(done: Step) -> None:
            nonlocal beat
            if time.monotonic() - beat > BEAT:
                beat = time.monotonic()
                trial.set_user_attr("beat", time.time())
            on_step(trial.number, done)

        try:
            found = self._train(trial, step)
        except (KeyboardInterrupt, Interrupted, FileError):
            self.study.tell(trial, state=TrialState.FAIL)
            self._again(trial)
            raise
        except SnnEnergyError as error:
            trial.set_user_attr("note", " ".join(str(error).split()))
            self.study.tell(trial, state=TrialState.FAIL)
            return
        for key, value in found.items():
            trial.set_user_attr(key, value)
        self.study.tell(trial, (found["accuracy"], found["nanojoules"]))

    def _train(self, trial: Trial, on_step: Callable[[Step], None]) -> dict[str, float]:
        """Train, profile, price: what an `Outcome` holds."""
        from snn_energy.checkpoints import load, read_checkpoint
        from snn_energy.data import load_data
        from snn_energy.energy.estimate import estimate
        from snn_energy.profiling.session import profile
        from snn_energy.training.device import choose_device

        settings = _settings(trial.params, self.space)
        recipe = self.recipe_of(settings)
        folder = self.out / f"trial-{trial.user_attrs.get('folder', trial.number)}"
        result = train(recipe, folder, device=self.device, on_step=on_step, resume=True)
        model = load(result.best)
        data = load_data(recipe.data, frames=getattr(model.config, "T", None), workers=0)
        batches = data.test.batches(2 * recipe.batch_size)
        measured = profile(model, batches, max_samples=self.samples, device=choose_device(self.device))
        words = " ".join(f"{key}={value}" for key, value in settings.items())
        dataclasses.replace(
            measured,
            model=recipe.model,
            data=f"{recipe.data} (test)",
            class_names=tuple(data.class_names),
            environment={**measured.environment, "settings": words},
            history=tuple(read_checkpoint(result.best).history),
        ).save(folder / "profile.json")
        energy = estimate(measured, "exact")
        return {
            "accuracy": result.chosen_accuracy,
            "test_accuracy": result.accuracy,
            "nanojoules": energy.total_pj / 1e3,
            "accumulates": energy.ac,
            "epoch": result.epoch,
            "seconds": result.seconds,
        }

    def _distributions(self) -> dict[str, BaseDistribution]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, BaseDistribution] = {
            k: CategoricalDistribution(v) for k, v in self.space.choices.items()
        }
        for key, r in self.space.ranges.items():
            if r.whole:
                found[key] = IntDistribution(int(r.low), int(r.high), log=r.logarithmic)
            else:
                found[key] = FloatDistribution(r.low, r.high, log=r.logarithmic)
        return found

    # -- what came of it ------------------------------------------------------------------------------------

    def outcomes(self) -> list[Outcome]:
        """All trials, those of other processes too, the best first; none that was planned twice."""
        trials = self.study.get_trials(deepcopy=False)
        found = [
            _outcome(t, self.space)
            for t in trials
            if "surplus" not in t.user_attrs and not _replaced(t, trials)
        ]
        return sorted(marked(found), key=lambda o: (-(o.accuracy or -1.0), o.nanojoules or 0.0, o.number))


def marked(outcomes: list[Outcome]) -> list[Outcome]:
    """The same with `pareto` told."""
    done = [
        (o.accuracy, o.nanojoules) for o in outcomes if o.accuracy is not None and o.nanojoules is not None
    ]

    def best(o: Outcome) -> bool:
        if o.accuracy is None or o.nanojoules is None:
            return False
        mine = (o.accuracy, o.nanojoules)
        return not any(a >= mine[0] and e <= mine[1] and (a, e) != mine for a, e in done)

    return [dataclasses.replace(o, pareto=best(o)) for o in outcomes]


def _outcome(trial: FrozenTrial, space: Space) -> Outcome:
    told, measured = trial.user_attrs, MEASURED & trial.user_attrs.keys()
    return Outcome(
        number=trial.number,
        settings=_settings(trial.params or trial.system_attrs.get("fixed_params", {}), space),
        folder=f"trial-{told.get('folder', trial.number)}",
        state={"COMPLETE": "done", "FAIL": "failed"}.get(trial.state.name, trial.state.name.lower()),
        where=f"{told['host']}:{told['pid']}" if "host" in told else "",
        **{name: told[name] for name in measured},
    )


def _replaced(trial: FrozenTrial, trials: list[FrozenTrial]) -> bool:
    """A trial that a process left undone, planned anew behind it."""
    undone = trial.state.name == "FAIL" and "note" not in trial.user_attrs
    return undone and any(t.number > trial.number for t in trials)


def _settings(params: dict[str, Any], space: Space) -> dict[str, str]:
    """Settings as words of a command line, in the order of the space."""
    return {
        key: _written(params[key], space.ranges[key]) if key in space.ranges else str(params[key])
        for key in space.keys
        if key in params
    }


def _written(value: float, given: Range) -> str:
    return str(int(value)) if given.whole else repr(float(value))


def _dead(trial: FrozenTrial) -> bool:
    """Has the process that ran it gone?  Here it is looked for, elsewhere its signs of life count."""
    told = trial.user_attrs
    if "beat" not in told:
        started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        return time.time() - started > DEAD
    if told.get("host") == socket.gethostname() and told.get("pid") != os.getpid():
        try:
            os.kill(int(told["pid"]), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
    return time.time() - told["beat"] > DEAD


def _open(storage: str, name: str) -> Study:
    """The study of this name, made if it is not there.  Raises `ConfigError` where the storage cannot be."""
    try:
        import optuna
    except ImportError:
        raise MissingDependency("optuna", "sweep", "a sweep") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        place: Any = storage
        if storage.startswith("journal:"):
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend

            place = JournalStorage(JournalFileBackend(storage.removeprefix("journal:")))
        return optuna.create_study(
            storage=place, study_name=name, directions=DIRECTIONS, load_if_exists=True,
            sampler=optuna.samplers.TPESampler(multivariate=False),
        )  # fmt: skip
    except Exception as error:  # of SQLAlchemy, of a driver that is not there, of a file
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"--storage {storage}: cannot be used ({reason})") from error
