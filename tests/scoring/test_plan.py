"""Plans of random steps, and the cost estimate against a count of what the rows really hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from align.batches import Tokens
from align.scoring.choose_layout import Cost, cheapest, choose, estimate, visible_area
from align.scoring.layout import RowLayout, lay_out, shapes, visible
from align.scoring.plan import GroupShape, Limits, filled_rows, make_plan, num_padded, num_tokens, row_width

LAYOUTS: tuple[RowLayout, ...] = ("padded", "packed", "shared")


def random_step(seed: int, count: int = 30) -> list[list[Tokens]]:
    draw = np.random.default_rng(seed)

    def tokens(length: int) -> np.ndarray:
        return draw.integers(0, 50, length).astype(np.int32)

    groups: list[list[Tokens]] = []
    for _ in range(count):
        prompt = tokens(int(draw.integers(1, 40)))
        lengths = [int(n) for n in draw.integers(0, 30, draw.integers(1, 4))]
        groups.append([Tokens(prompt, tokens(n), np.ones(n, dtype=bool)) for n in lengths])
    return groups


def shapes_of(groups: list[list[Tokens]], layout: RowLayout) -> list[GroupShape]:
    return shapes(groups, layout)


CASES = list(itertools.product(LAYOUTS, (1, 2, 5), (60, 200, 5000), (0, 200)))


@pytest.mark.parametrize(("layout", "world_size", "max_tokens", "row_tokens"), CASES)
def test_laws_of_a_plan(layout: RowLayout, world_size: int, max_tokens: int, row_tokens: int):
    groups = random_step(world_size)
    found = shapes_of(groups, layout)
    limits = Limits(max_tokens, head_chunk=20, world_size=world_size, row_tokens=min(row_tokens, max_tokens))
    plan = make_plan(found, layout, limits)

    # every group exactly once, whole; the same shape on every rank
    assert sorted(i for rank in plan.ranks for micro in rank for i in micro.groups) == list(range(len(groups)))
    assert len(plan.ranks) == world_size
    assert len({tuple(micro.num_chunks for micro in rank) for rank in plan.ranks}) == 1

    # no micro-batch is larger than allowed, unless one group alone is; and none could have taken the next group too
    for rank in plan.ranks:
        for micro, following in itertools.zip_longest(rank, rank[1:]):
            held = [found[i] for i in micro.groups]
            size = num_padded(held, layout, limits.row_tokens)
            rows = lay_out([groups[i] for i in micro.groups], layout, limits.row_tokens)
            assert size == (rows.input_ids.numel() if held else 0)  # the plan knows what will be laid out
            assert size <= max_tokens or len(held) == 1
            if following and following.groups:
                assert num_padded([*held, found[following.groups[0]]], layout, limits.row_tokens) > max_tokens

    # longest first, and portions of the head that fit on every rank
    for rank in plan.ranks:
        widths = [row_width(found[i], layout) for micro in rank for i in micro.groups]
        assert widths == sorted(widths, reverse=True)
        for micro in rank:
            predicted = sum(sum(b) for i in micro.groups for _, b in found[i])
            assert predicted <= micro.num_chunks * limits.head_chunk

    # balanced: no rank has more than the least loaded one plus one group
    loads = [sum(num_tokens(found[i]) for micro in rank for i in micro.groups) for rank in plan.ranks]
    assert max(loads) - min(loads) <= max(map(num_tokens, found))
    assert make_plan(found, layout, limits) == plan  # pure


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_plan_is_depends_on_lengths_alone(layout: RowLayout):
    """Groups of equal lengths go by their place in the step; in another order the same lengths meet."""
    found = shapes_of(random_step(3), layout)
    doubled = [*found, *found]  # every length twice
    order = np.random.default_rng(0).permutation(len(doubled))
    limits = Limits(200, 20, 3)
    plan, other = make_plan(doubled, layout, limits), make_plan([doubled[i] for i in order], layout, limits)

    def lengths(ranks: object, source: list[GroupShape]) -> list[list[list[int]]]:
        return [[[num_tokens(source[i]) for i in m.groups] for m in rank] for rank in ranks]  # type: ignore[attr-defined]

    assert lengths(plan.ranks, doubled) == lengths(other.ranks, [doubled[i] for i in order])
    equal = make_plan([((5, (3,)),)] * 7, layout, Limits(16, 100, 2))
    assert [[m.groups for m in rank] for rank in equal.ranks] == [[(0, 2), (4, 6)], [(1, 3), (5,)]]


def test_a_rank_without_groups_runs_empty_micro_batches():
    plan = make_plan([((5, (3,)),)], "padded", Limits(100, 2, 3))
    assert [[micro.groups for micro in rank] for rank in plan.ranks] == [[(0,)], [()], [()]]
    assert {micro.num_chunks for rank in plan.ranks for micro in rank} == {2}


def test_a_step_without_groups_is_one_empty_micro_batch():
    plan = make_plan([], "shared", Limits(100, 2, 2))
    assert [[micro.groups for micro in rank] for rank in plan.ranks] == [[()], [()]]


def test_long_rows_waste_less():
    """A row of one group is as wide as the widest; rows that may be long are filled."""
    found: list[GroupShape] = [((10, (n,)),) for n in (90, 50, 45, 40, 35)]
    assert num_padded(found, "packed", 0) == 400  # widths 100; 60; 55 and 45; 50: four rows of 100
    assert num_padded(found, "packed", 400) == 310
    assert [len(row) for row in filled_rows(found, "packed", 400)] == [5]


# ---- cost -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["packed", "shared"])
@pytest.mark.parametrize("seed", range(4))
def test_visible_area_counts_the_mask(seed: int, layout: RowLayout):
    groups = random_step(seed, count=6)
    rows = lay_out(groups, layout)
    assert rows.tree is not None
    counted = int(visible(rows)[rows.tree >= 0].sum())
    assert sum(map(visible_area, shapes_of(groups, layout))) == counted


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tokens_are_counted_with_their_padding(layout: RowLayout):
    groups = random_step(5)
    limits = Limits(300, 1000)
    plan = make_plan(shapes_of(groups, layout), layout, limits)
    counted = sum(lay_out([groups[i] for i in m.groups], layout).input_ids.numel() for m in plan.ranks[0])
    assert estimate(shapes_of(groups, layout), layout, limits, Cost(1.0, 0.0)) == counted


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_dense_mask_pays_for_its_square_and_plain_rows_for_half(layout: RowLayout):
    groups = random_step(6)
    limits = Limits(300, 1000)
    counted = 0.0
    for micro in make_plan(shapes_of(groups, layout), layout, limits).ranks[0]:
        height, width = lay_out([groups[i] for i in micro.groups], layout).input_ids.shape
        counted += height * width**2 * (0.5 if layout == "padded" else 1.0)
    assert estimate(shapes_of(groups, layout), layout, limits, Cost(0.0, 1.0)) == counted


@pytest.mark.parametrize("layout", ["packed", "shared"])
def test_block_sparse_attention_pays_for_blocks_that_hold_something(layout: RowLayout):
    """Counted on the masks: never less than what is visible, and the estimate within a third of the blocks."""
    side = 16
    draw = np.random.default_rng(0)
    prompt = [draw.integers(0, 50, 120).astype(np.int32) for _ in range(6)]
    ids = [draw.integers(0, 50, 90).astype(np.int32) for _ in range(12)]
    groups = [[Tokens(prompt[k], ids[2 * k + n], np.ones(90, dtype=bool)) for n in range(2)] for k in range(6)]
    limits = Limits(1000, 1000, row_tokens=1000)
    computed = 0
    for micro in make_plan(shapes_of(groups, layout), layout, limits).ranks[0]:
        seen = visible(lay_out([groups[i] for i in micro.groups], layout, 1000)).numpy()
        high, wide = seen.shape[0], -seen.shape[1] % side
        padded = np.pad(seen, ((0, 0), (0, wide), (0, wide)))
        count = padded.shape[1] // side
        computed += int(padded.reshape(high, count, side, count, side).any((2, 4)).sum()) * side**2
    estimated = estimate(shapes_of(groups, layout), layout, limits, Cost(0.0, 1.0, side))
    dense = estimate(shapes_of(groups, layout), layout, limits, Cost(0.0, 1.0))
    assert estimated == pytest.approx(computed, rel=0.34)
    assert estimated < dense / 2


def test_long_rows_cost_length_squared_unless_blocks_are_left_out():
    found: list[GroupShape] = [((512, (64, 64)),)] * 8
    dense, sparse = Cost(0.0, 1.0), Cost(0.0, 1.0, 128)
    short, long = Limits(8192, 1000), Limits(8192, 1000, row_tokens=8192)
    assert estimate(found, "shared", long, dense) == 8 * estimate(found, "shared", short, dense)
    assert estimate(found, "shared", long, sparse) < 1.1 * estimate(found, "shared", short, sparse)


def test_the_cheapest_layout():
    """The shapes of the benchmarks, a Llama of four layers of 256: prompts are worth sharing the longer they are."""
    cost = Cost(3.2e6, 2.0 * 256 * 4)

    def shares(prompt: int, completion: int) -> float:
        pair = [np.zeros(completion, dtype=np.int32)] * 2
        start, yes = np.zeros(prompt, dtype=np.int32), np.ones(completion, dtype=bool)
        groups = [[Tokens(start, ids, yes) for ids in pair]] * 8
        of: dict[RowLayout, list[GroupShape]] = {name: shapes_of(groups, name) for name in LAYOUTS}
        assert cheapest(of, Limits(8192, 10**9), cost, LAYOUTS) == "shared"
        assert cheapest(of, Limits(8192, 10**9), cost, ["padded"]) == "padded"
        costs = {name: estimate(of[name], name, Limits(8192, 10**9), cost) for name in LAYOUTS}
        return costs["shared"] / costs["padded"]

    assert shares(512, 64) < shares(256, 128) < 1


def test_a_layout_asked_for_by_name_is_used_where_it_is_right():
    right: dict[RowLayout, str] = {"padded": "", "packed": "", "shared": "differs"}
    said: list[str] = []
    assert choose("packed", right, lambda allowed: allowed[0], said.append) == "packed"
    assert said == []
    assert choose("auto", right, lambda allowed: allowed[-1], said.append) == "packed"
    assert len(said) == 1
