"""All reward functions of a recipe over completions: verdicts by name, and their weighted sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from align.errors import RunError, UserError
from align.outside import place_of
from align.rewards.base import Sample, call, compares, find_reward, shown
from align.rewards.cache import Cache
from align.rewards.pool import Pool, Verdict
from align.rewards.settings import Function, RewardSection

LATE = "took longer than reward.timeout"


@dataclass(frozen=True)
class Earned:
    """What a completion earns, by function; None: does not apply, or could not be judged."""

    rewards: dict[str, float | None]
    failed: dict[str, str] = field(default_factory=dict)  # functions that could not judge it, and why


@dataclass(frozen=True)
class RewardFunctions:
    """Reward functions by the names they are logged under, each with its weight.

    Called, it asks those that judge a completion by itself; `compare` asks those that compare completions.
    """

    functions: Mapping[str, Callable[..., Any]]
    weights: Mapping[str, float]
    mark_errors: bool = False
    pools: Mapping[str, Pool] = field(default_factory=dict)  # of functions that have a limit of time
    caches: Mapping[str, Cache] = field(default_factory=dict)  # of functions whose verdicts are remembered

    def __call__(self, samples: Sequence[Sample]) -> list[Earned]:
        """For each sample, what each function says that looks at nothing else."""
        if not samples:
            return []
        said = {name: self._remembered(name, samples) for name in self.functions if name not in self.comparing}
        return _by_sample(said, len(samples))

    @property
    def comparing(self) -> tuple[str, ...]:
        """The functions that are given all completions of a prompt."""
        return tuple(name for name, function in self.functions.items() if compares(function))

    def alone(self, verdicts: Mapping[str, float | None]) -> dict[str, float | None]:
        """Those of functions that judge a completion by itself."""
        return {name: value for name, value in verdicts.items() if name not in self.comparing}

    def compare(self, groups: Sequence[Sequence[Sample]]) -> list[list[Earned]]:
        """What functions that compare say of the samples of each group: a prompt's. Of one alone they say nothing."""
        said = {name: self._compared(name, groups) for name in self.comparing}
        return [
            _by_sample({name: by_group[i] for name, by_group in said.items()}, len(group))
            for i, group in enumerate(groups)
        ]

    def total(self, verdicts: Mapping[str, float | None]) -> float | None:
        """The weighted sum of what applies; None where nothing does."""
        values = [self.weights[name] * value for name, value in verdicts.items() if value is not None]
        return sum(values) if values else None

    def close(self) -> None:
        for pool in self.pools.values():
            pool.close()

    def _remembered(self, name: str, samples: Sequence[Sample]) -> list[Verdict]:
        if name not in self.caches:
            return self._said(name, samples)
        return self.caches[name].through(samples, lambda missing: self._said(name, missing))

    def _said(self, name: str, samples: Sequence[Sample]) -> list[Verdict]:
        found = self.pools[name].judge(samples) if name in self.pools else self._here(name, samples)
        return self._sound(name, found, samples)

    def _compared(self, name: str, groups: Sequence[Sequence[Sample]]) -> list[list[Verdict]]:
        several = [group for group in groups if len(group) > 1]
        if name in self.pools:
            found = self.pools[name].judge_together(several)
        else:
            found = [self._together(name, group) for group in several]
        rest = iter([self._sound(name, verdicts) for verdicts in found])
        return [next(rest) if len(group) > 1 else [Verdict()] * len(group) for group in groups]

    def _sound(self, name: str, found: list[Verdict], samples: Sequence[Sample] = ()) -> list[Verdict]:
        """RunError where a function has failed, and that is not to be marked."""
        for i, verdict in enumerate(found):
            if verdict.broken:
                raise RunError(verdict.error)
            if verdict.error and not self.mark_errors:
                of = samples[i : i + 1] if name in self.pools else self._failing(name, samples)
                raise RunError(_told(name, verdict.error + (f", for {shown(of[0])}" if of else "")))
        return found

    def _failing(self, name: str, samples: Sequence[Sample]) -> Sequence[Sample]:
        """The one sample that a call of all has failed by, found by halves; none where it takes several of them."""
        while len(samples) > 1:
            half = len(samples) // 2
            samples = samples[:half] if self._together(name, samples[:half])[0].error else samples[half:]
        return samples if samples and self._together(name, samples)[0].error else ()

    def _here(self, name: str, samples: Sequence[Sample]) -> list[Verdict]:
        """All at once; one by one only to find those that cannot be judged."""
        found = self._together(name, samples)
        if len(samples) == 1 or not self.mark_errors or found[0].broken or not found[0].error:
            return found
        return [verdict for sample in samples for verdict in self._here(name, [sample])]

    def _together(self, name: str, samples: Sequence[Sample]) -> list[Verdict]:
        """By one call, which fails for all of them."""
        try:
            place = list(self.functions).index(name)
            return [Verdict(value) for value in call(name, self.functions[name], samples, place)]
        except RunError as error:
            return [Verdict(error=str(error), broken=True)] * len(samples)
        except Exception as error:  # whatever a user's function may raise
            return [Verdict(error=place_of(error))] * len(samples)


def _by_sample(said: Mapping[str, Sequence[Verdict]], count: int) -> list[Earned]:
    return [
        Earned(
            {name: verdicts[i].value for name, verdicts in said.items()},
            {n: v[i].error or LATE for n, v in said.items() if v[i].error or v[i].late},
        )
        for i in range(count)
    ]


def make_reward_functions(section: RewardSection) -> RewardFunctions:
    """UserError where a function is not there, cannot be imported, or does not take its settings."""
    functions: dict[str, Callable[..., Any]] = {}
    weights: dict[str, float] = {}
    pools: dict[str, Pool] = {}
    caches: dict[str, Cache] = {}
    for name, asked in named(section.functions):
        functions[name], weights[name] = find_reward(asked.name, asked.settings), asked.weight
        if section.timeout > 0 and not getattr(functions[name], "in_process", False):
            place = len(functions) - 1
            pools[name] = Pool(asked.name, asked.settings, section.timeout, section.num_workers, place)
        if asked.cache and compares(functions[name]):
            raise UserError(
                f"reward {asked.name}: cache remembers completions one by one, and this function compares those of a "
                "prompt; remove the key"
            )
        if asked.cache:
            caches[name] = Cache()
    return RewardFunctions(functions, weights, section.on_error == "mark", pools, caches)


def named(functions: Sequence[str | Function]) -> list[tuple[str, Function]]:
    """By the names they are logged under: the same function twice, with other settings, has two."""
    found: dict[str, Function] = {}
    for entry in functions:
        asked = Function(name=entry) if isinstance(entry, str) else entry
        name = free = asked.name.rpartition(":")[2]
        number = 2
        while free in found:
            free, number = f"{name}_{number}", number + 1
        found[free] = asked
    return list(found.items())


def _told(name: str, error: str) -> str:
    cure = "correct it and go on with --resume --allow-changes inputs.rewards"
    return f"reward {name}: {error}; {cure}, or set reward.on_error: mark to leave out samples that it cannot judge"
