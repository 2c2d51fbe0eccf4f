"""Rows are read back as a slow reader would: walk from each predicting place to the root along the mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from align.batches import Tokens
from align.scoring.attention import BLOCK, additive, aligned, block_mask
from align.scoring.layout import PADDING, RowLayout, Rows, lay_out, shapes, visible

LAYOUTS: tuple[RowLayout, ...] = ("padded", "packed", "shared")
WINDOWS = (None, 1, 3, 7)


def random_groups(seed: int, count: int = 5) -> list[list[Tokens]]:
    """Prompts shared by some members and not by others, completions that are empty, tokens that do not count.

    Token ids are all different, so a token says whose it is and where it stands.
    """
    draw = np.random.default_rng(seed)
    ids = iter(range(1, 10_000))

    def tokens(length: int) -> np.ndarray:
        return np.array([next(ids) for _ in range(length)], dtype=np.int32)

    groups: list[list[Tokens]] = []
    for _ in range(count):
        prompts = [tokens(int(draw.integers(1, 9))) for _ in range(2)]
        group: list[Tokens] = []
        for _ in range(int(draw.integers(1, 5))):
            completion = tokens(int(draw.choice([0, 1, 2, 5, 8])))
            prompt = prompts[int(draw.random() < 0.3)].copy()  # equal, not identical
            group.append(Tokens(prompt, completion, draw.random(len(completion)) < 0.7))
        groups.append(group)
    return groups


def members_of(groups: list[list[Tokens]]) -> list[Tokens]:
    return [member for group in groups for member in group]


def context(rows: Rows, seen: torch.Tensor, row: int, place: int) -> dict[int, int]:
    """Position -> token of all that a place sees, itself included; no two may claim one position."""
    keys = seen[row, place].nonzero()[:, 0]
    positions = rows.position_ids[row, keys].tolist()
    assert len(set(positions)) == len(positions)
    return dict(zip(positions, rows.input_ids[row, keys].tolist(), strict=True))


def mask_of(rows: Rows) -> torch.Tensor:
    if rows.tree is not None:
        return visible(rows)
    return torch.ones(len(rows.input_ids), *[rows.input_ids.shape[1]] * 2, dtype=torch.bool).tril()


@pytest.mark.parametrize("row_tokens", [0, 64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(6))
def test_every_kept_token_is_predicted_once_from_all_that_precedes_it(seed: int, layout: RowLayout, row_tokens: int):
    groups = random_groups(seed)
    members = members_of(groups)
    rows = lay_out(groups, layout, row_tokens)
    seen = mask_of(rows)
    wanted = {(s, int(t)) for s, m in enumerate(members) for t in np.flatnonzero(m.mask)}
    found = list(zip(*rows.origin.tolist(), strict=True))
    assert len(found) == len(set(found))
    assert set(found) == wanted
    for (sequence, time), (row, place), target in zip(
        found, zip(*rows.predictor.tolist(), strict=True), rows.target.tolist(), strict=True
    ):
        member = members[sequence]
        before = [*member.prompt.tolist(), *member.completion[:time].tolist()]
        assert context(rows, seen, row, place) == dict(enumerate(before))
        assert target == member.completion[time]


@pytest.mark.parametrize("row_tokens", [0, 64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_last_token_of_each_sequence_sees_the_whole_of_it(seed: int, layout: RowLayout, row_tokens: int):
    groups = random_groups(seed)
    rows = lay_out(groups, layout, row_tokens)
    seen = mask_of(rows)
    assert len(rows) == len(members_of(groups))
    for member, (row, place) in zip(members_of(groups), zip(*rows.last.tolist(), strict=True), strict=True):
        whole = [*member.prompt.tolist(), *member.completion.tolist()]
        assert context(rows, seen, row, place) == dict(enumerate(whole))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(3))
def test_tokens_that_are_laid_out_are_those_that_the_shapes_promise(seed: int, layout: RowLayout):
    groups = random_groups(seed)
    rows = lay_out(groups, layout)
    promised = sum(trunk + sum(branches) for trees in shapes(groups, layout) for trunk, branches in trees)
    assert int((rows.input_ids > 0).sum()) == promised
    if layout == "shared":  # each prompt of a group once
        prompts = sum(len(p) for g in groups for p in {m.prompt.tobytes(): m.prompt for m in g}.values())
        assert promised == prompts + sum(len(m.completion) for m in members_of(groups))
    else:
        assert promised == sum(map(len, members_of(groups)))


def test_members_with_different_prompts_are_different_trees():
    one, two = np.array([1, 2], dtype=np.int32), np.array([3, 4], dtype=np.int32)
    end, yes = np.array([5], dtype=np.int32), np.array([True])
    group = [Tokens(one, end, yes), Tokens(two, end, yes), Tokens(one.copy(), end, yes)]
    assert shapes([group], "shared") == [((2, (1, 1)), (2, (1,)))]
    rows = lay_out([group], "shared")
    assert rows.input_ids.tolist() == [[1, 2, 5, 5, 3, 4, 5]]
    assert rows.position_ids.tolist() == [[0, 1, 2, 2, 0, 1, 2]]
    assert rows.last.tolist() == [[0, 0, 0], [2, 6, 3]]
    assert rows.predictor.tolist() == [[0, 0, 0], [1, 5, 1]]


def test_equal_prompts_of_different_groups_stay_apart():
    """A plan counts each group's tokens alone."""
    prompt, end, yes = np.array([1, 2], dtype=np.int32), np.array([5], dtype=np.int32), np.array([True])
    rows = lay_out([[Tokens(prompt, end, yes)], [Tokens(prompt, end, yes)]], "shared")
    assert rows.input_ids.tolist() == [[1, 2, 5], [1, 2, 5]]


def test_an_empty_micro_batch_runs_one_token_and_predicts_none():
    for layout in LAYOUTS:
        rows = lay_out([], layout)
        assert rows.input_ids.shape == (1, 1)
        assert len(rows) == rows.target.numel() == rows.predictor.shape[1] == 0


def test_an_empty_completion_ends_with_its_prompt():
    prompt, nothing = np.array([7, 8, 9], dtype=np.int32), np.array([], dtype=np.int32)
    for layout in LAYOUTS:
        rows = lay_out([[Tokens(prompt, nothing, nothing.astype(bool))]], layout)
        assert rows.last.tolist() == [[0], [2]]
        assert rows.target.numel() == 0


def brute_force(rows: Rows, groups: list[list[Tokens]], window: int | None) -> torch.Tensor:
    """Token i sees token j if some sequence holds both, j not after i and less than `window` positions before it."""
    height, width = rows.input_ids.shape
    owners: dict[int, set[int]] = {}
    for sequence, member in enumerate(members_of(groups)):
        for token in [*member.prompt.tolist(), *member.completion.tolist()]:
            owners.setdefault(token, set()).add(sequence)
    seen = torch.zeros(height, width, width, dtype=torch.bool)
    ids, positions = rows.input_ids.tolist(), rows.position_ids.tolist()
    for r in range(height):
        for i in range(width):
            for j in range(width):
                both = owners.get(ids[r][i], set()) & owners.get(ids[r][j], set())
                back = positions[r][i] - positions[r][j]
                seen[r, i, j] = i == j or (bool(both) and 0 <= back < (window or width))
    return seen


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("layout", ["packed", "shared"])
def test_visible_is_what_the_words_say(layout: RowLayout, window: int | None):
    for seed in range(3):
        groups = random_groups(seed, count=3)
        rows = lay_out(groups, layout)
        if layout == "packed":  # the copies of a prompt have one id here and must not see each other
            groups = [[member] for member in members_of(_distinct(groups))]
            rows = lay_out(groups, layout, row_tokens=30)
        assert torch.equal(visible(rows, window), brute_force(rows, groups, window))


def _distinct(groups: list[list[Tokens]]) -> list[list[Tokens]]:
    """The same lengths, no token twice."""
    ids = iter(range(1, 10_000))

    def fresh(old: np.ndarray) -> np.ndarray:
        return np.array([next(ids) for _ in old], dtype=np.int32)

    return [[Tokens(fresh(m.prompt), fresh(m.completion), m.mask) for m in group] for group in groups]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("layout", ["packed", "shared"])
def test_the_block_mask_is_the_same_mask(layout: RowLayout, window: int | None):
    groups = random_groups(1, count=40)
    rows = aligned(lay_out(groups, layout, row_tokens=500), BLOCK)
    height, width = rows.input_ids.shape
    assert height > 1
    assert width % BLOCK == 0
    seen = visible(rows, window)
    made = block_mask(rows, window)
    r, i, j = torch.meshgrid(*(torch.arange(n) for n in seen.shape), indexing="ij")
    assert torch.equal(made.mask_mod(r, torch.zeros_like(r), i, j), seen)
    blocks = seen.reshape(height, width // BLOCK, BLOCK, width // BLOCK, BLOCK)
    assert torch.equal(made.to_dense()[:, 0].bool(), blocks.any(4).any(2))
    assert made.sparsity() > 20  # per cent of the blocks that are left out


def test_widening_changes_nothing_but_padding():
    rows = lay_out(random_groups(2), "shared")
    wide = aligned(rows, BLOCK)
    width = rows.input_ids.shape[1]
    assert rows.tree is not None
    assert wide.tree is not None
    assert torch.equal(wide.tree[:, :width], rows.tree)
    assert (wide.tree[:, width:] == PADDING).all()
    assert torch.equal(visible(wide)[:, :width, :width], visible(rows))
    assert torch.equal(wide.predictor, rows.predictor)


def test_padding_sees_itself_alone_and_nobody_sees_it():
    rows = lay_out(random_groups(3), "shared")
    assert rows.tree is not None
    padding = rows.tree == PADDING
    assert padding.any()
    seen = visible(rows)
    itself = torch.eye(seen.shape[1], dtype=torch.bool).expand_as(seen)
    assert torch.equal(seen[padding], itself[padding])
    assert not (seen & ~itself).transpose(1, 2)[padding].any()


def test_an_additive_mask_forbids_by_the_lowest_number():
    seen = visible(lay_out(random_groups(0), "packed"))
    mask = additive(seen, torch.float32)[:, 0]
    assert (mask[seen] == 0).all()
    assert (mask[~seen] == torch.finfo(torch.float32).min).all()
