"""Layouts of random graphs: what they promise whatever the graph."""

import itertools

import numpy as np
import pytest

from mazejax.rendering.layered import ARROW, Node, layered


def random_nodes(seed, count=14):
    """Nodes with up to three inputs among all earlier lines, and up to three outputs."""
    rng = np.random.default_rng(seed)
    nodes, lines = {}, []
    for i in range(count):
        takes = (
            rng.choice(lines, min(len(lines), rng.integers(0, 4)), replace=False) if lines else ()
        )
        gives = tuple((f"{i}.{j}", float(rng.integers(10, 90))) for j in range(rng.integers(1, 4)))
        width = max(60.0, sum(width + 10 for _, width in gives))
        nodes[str(i)] = Node(width, float(rng.integers(30, 90)), tuple(map(str, takes)), gives)
        lines += [line for line, _ in gives]
    for line in rng.choice(lines, 3, replace=False):
        nodes[f"last {line}"] = Node(50.0, 40.0, (str(line),), is_last=True)
    return nodes


def rectangles(nodes, layout):
    return {
        name: (x - nodes[name].width / 2, y, x + nodes[name].width / 2, y + nodes[name].height)
        for name, (x, y) in layout.nodes.items()
    }


def points(segment):
    """[101, 2] on the curve that is drawn."""
    t = np.linspace(0, 1, 101)[:, None]
    x0, y0, x1, y1 = segment
    middle = (y0 + y1) / 2
    corners = np.array([[x0, y0], [x0, middle], [x1, middle], [x1, y1]])
    weights = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    return weights @ corners


@pytest.mark.parametrize("seed", range(20))
def test_nodes_do_not_overlap_and_stand_below_what_they_take_from(seed):
    nodes = random_nodes(seed)
    layout = layered(nodes)
    boxes = rectangles(nodes, layout)
    assert {*boxes} == {*nodes}
    for first, second in itertools.combinations(boxes.values(), 2):
        aside = first[2] < second[0] or second[2] < first[0]
        assert aside or first[3] < second[1] or second[3] < first[1]
    for x0, y0, x1, y1 in boxes.values():
        assert -1e-6 <= x0 and x1 <= layout.width + 1e-6
        assert 0 <= y0 and y1 <= layout.height + 1e-6
    for name, node in nodes.items():
        for line in node.takes:
            giver = line.split(".")[0]
            assert boxes[name][1] > boxes[giver][3]
    lows = {layout.nodes[name][1] for name, node in nodes.items() if node.is_last}
    assert len(lows) == 1 and all(y <= max(lows) for _, y in layout.nodes.values())


@pytest.mark.parametrize("seed", range(20))
def test_no_line_runs_through_a_node(seed):
    nodes = random_nodes(seed)
    layout = layered(nodes)
    drawn = np.concatenate([points(s) for pieces in layout.lines.values() for s in pieces])
    for x0, y0, x1, y1 in rectangles(nodes, layout).values():
        x, y = drawn[:, 0], drawn[:, 1]
        assert not ((x0 < x) & (x < x1) & (y0 + 1e-6 < y) & (y < y1 - 1e-6)).any()


@pytest.mark.parametrize("seed", range(20))
def test_lines_join_their_nodes(seed):
    nodes = random_nodes(seed)
    layout = layered(nodes)
    boxes = rectangles(nodes, layout)
    for name, node in nodes.items():
        for line, width in node.gives:
            x, y, *_ = layout.lines[line][0]
            assert y == boxes[name][3]
            assert boxes[name][0] - 1e-6 <= x - width / 2 and x + width / 2 <= boxes[name][2] + 1e-6
    for pieces in layout.lines.values():
        reached = {(pieces[0].x0, pieces[0].y0)}
        for x0, y0, x1, y1 in pieces:
            assert (x0, y0) in reached and y1 >= y0
            reached.add((x1, y1))
    ends = {(s.x1, s.y1) for pieces in layout.lines.values() for s in pieces}
    for name, node in nodes.items():
        x0, y0, x1, _ = boxes[name]
        here = [x for x, y in layout.ends if y == y0 and x0 < x < x1]
        assert len(here) == len(node.takes)
        assert all((x, y0 - ARROW) in ends for x in here)


def test_a_chain_is_a_straight_line():
    nodes = {"0": Node(50, 40, (), (("0.0", 10),))}
    for i, width in enumerate((90, 30, 70), start=1):
        nodes[str(i)] = Node(width, 40, (f"{i - 1}.0",), ((f"{i}.0", 10),))
    layout = layered(nodes)
    np.testing.assert_allclose([x for x, _ in layout.nodes.values()], 45.0, atol=1e-6)


def test_what_skips_layers_runs_straight_down_beside_them():
    nodes = {
        "0": Node(50, 40, (), (("0.0", 10),)),
        "1": Node(90, 40, ("0.0",), (("1.0", 10),)),
        "2": Node(90, 40, ("1.0",), (("2.0", 10),)),
        "3": Node(90, 40, ("0.0", "2.0"), (("3.0", 10),)),
    }
    layout = layered(nodes)
    top, bottom = layout.nodes["1"][1], layout.nodes["2"][1] + 40
    within = [s for s in layout.lines["0.0"] if top <= s.y0 and s.y1 <= bottom]
    assert len(within) == 3 and len({x for s in within for x in (s.x0, s.x1)}) == 1


def test_crossings_that_reordering_undoes_are_undone():
    nodes = {name: Node(40, 40, (), ((f"{name}.0", 10),)) for name in "ab"}
    nodes |= {"c": Node(40, 40, ("b.0",)), "d": Node(40, 40, ("a.0",))}
    x = {name: place[0] for name, place in layered(nodes).nodes.items()}
    assert (x["a"] < x["b"]) == (x["d"] < x["c"])


def test_a_graph_of_nothing_has_no_size():
    assert layered({})[:2] == (0.0, 0.0)


def test_layouts_do_not_depend_on_chance():
    assert layered(random_nodes(0)) == layered(random_nodes(0))
