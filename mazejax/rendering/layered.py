"""Places for the nodes of a directed graph, in layers from top to bottom.

A node stands one layer below the lowest of those that it takes from. What skips a layer
runs through a bend there that has a place of its own, so that no line crosses a node.
Plain numbers, deterministic, for graphs that a person could read.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_GAP = 28.0
"""Between neighbours of a layer."""
_BEND = 14.0
"""Width that a bend keeps free."""
PORT_GAP = 10.0
"""Between what neighbouring lines of a node keep free."""
_MAX_PORT_STEP = 30.0
"""Between neighbouring ends at a node."""
_MIN_DROP, _MAX_DROP = 36.0, 96.0
"""Between layers."""
_SWEEPS = 12
"""For the order, half of them downwards, half upwards."""
_PULLS = 60
"""Sweeps for the places."""
_NEARLY = 12.0
"""Up to this far aside, a node is moved to where its line is straight."""
ARROW = 8.0
"""Height of what is kept free for the head at the end of a line."""


class Node(NamedTuple):
    """A box and what it is connected by; names of lines are the graph's own."""

    width: float
    height: float
    takes: tuple[str, ...] = ()
    """Lines that end at its top."""
    gives: tuple[tuple[str, float], ...] = ()
    """Lines that begin at its bottom, and the width that each keeps free there."""
    is_last: bool = False
    """Whether it stands on the lowest layer, wherever it takes from."""


class Segment(NamedTuple):
    """A piece of a line from above to below, upright at both ends."""

    x0: float
    y0: float
    x1: float
    y1: float


class Layout(NamedTuple):
    """Where everything is, y downwards, all of it within (0, 0) and (width, height)."""

    width: float
    height: float
    nodes: dict[str, tuple[float, float]]
    """(middle, top) of each."""
    lines: dict[str, list[Segment]]
    """Pieces of each; the first begins at its node."""
    ends: list[tuple[float, float]]
    """Tops of nodes; lines end `ARROW` above."""


class _Bend(NamedTuple):
    line: str
    layer: int


_Item = str | _Bend
"""What has a place in a layer: a node by its name, or a bend."""


class _Link(NamedTuple):
    """A piece of a line between neighbouring layers."""

    line: str
    upper: _Item
    lower: _Item


_Layers = list[list[_Item]]
"""Items of each layer from left to right, layers from the top."""
_Links = list[list[_Link]]
"""Between each layer and the next."""
_Offsets = dict[tuple[_Item, str, bool], float]
"""How far from the middle of an item a line begins (True) or ends (False); of bends nothing."""


def layered(nodes: Mapping[str, Node]) -> Layout:
    """The layout of nodes by name, each after those that it takes from.

    Every line that is taken is given by exactly one node.
    """
    layers, links = _layers(nodes)
    layers = _with_few_crossings(layers, links)
    offsets = _offsets(nodes, layers, links)
    middles = _middles(nodes, layers, links, offsets)
    return _layout(nodes, layers, links, offsets, middles)


def _layers(nodes: Mapping[str, Node]) -> tuple[_Layers, _Links]:
    """What stands in each layer, and the links between each and the next."""
    givers = {line: name for name, node in nodes.items() for line, _ in node.gives}
    ranks: dict[str, int] = {}
    for name, node in nodes.items():
        ranks[name] = max((ranks[givers[line]] + 1 for line in node.takes), default=0)
    lowest = max(ranks.values(), default=0)
    last = [name for name, node in nodes.items() if node.is_last]
    if last and lowest in (rank for name, rank in ranks.items() if name not in last):
        lowest += 1
    ranks |= dict.fromkeys(last, lowest)

    layers: _Layers = [[name for name in nodes if ranks[name] == r] for r in range(lowest + 1)]
    links: _Links = [[] for _ in range(lowest)]
    for line, giver in givers.items():
        takers = {name: ranks[name] for name, node in nodes.items() if line in node.takes}
        upper: _Item = giver
        for layer in range(ranks[giver] + 1, max(takers.values(), default=0) + 1):
            here = [name for name, rank in takers.items() if rank == layer]
            links[layer - 1] += [_Link(line, upper, name) for name in here]
            if any(rank > layer for rank in takers.values()):
                bend = _Bend(line, layer)
                layers[layer].append(bend)
                links[layer - 1].append(_Link(line, upper, bend))
                upper = bend
    return layers, links


def _with_few_crossings(layers: _Layers, links: _Links) -> _Layers:
    """The layers reordered: each item near the mean of those that it is linked to.

    Sugiyama, Tagawa and Toda, 1981, doi:10.1109/TSMC.1981.4308636.
    """
    best, fewest = layers, _crossings(layers, links)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        layers = [list(layer) for layer in layers]
        downwards = sweep % 2 == 0
        for r in range(1, len(layers)) if downwards else range(len(layers) - 2, -1, -1):
            beside = layers[r - 1] if downwards else layers[r + 1]
            places = {item: i for i, item in enumerate(beside)}
            linked: dict[_Item, list[int]] = {item: [] for item in layers[r]}
            for link in links[r - 1] if downwards else links[r]:
                here, there = (link.lower, link.upper) if downwards else (link.upper, link.lower)
                linked[here].append(places[there])
            means = {
                item: sum(linked[item]) / len(linked[item]) if linked[item] else float(i)
                for i, item in enumerate(layers[r])
            }
            layers[r].sort(key=means.__getitem__)
        crossings = _crossings(layers, links)
        if crossings < fewest:
            best, fewest = layers, crossings
    return best


def _crossings(layers: _Layers, links: _Links) -> int:
    """How often pieces of different lines cross."""
    count = 0
    for upper, lower, between in zip(layers, layers[1:], links, strict=False):
        above = {item: i for i, item in enumerate(upper)}
        below = {item: i for i, item in enumerate(lower)}
        pairs = sorted((above[link.upper], below[link.lower]) for link in between)
        for i, (_, first) in enumerate(pairs):
            count += sum(later < first for _, later in pairs[i + 1 :])
    return count


def _offsets(nodes: Mapping[str, Node], layers: _Layers, links: _Links) -> _Offsets:
    """Where lines begin and end at nodes, in the order of where they go and come from."""
    places = {item: i for layer in layers for i, item in enumerate(layer)}
    offsets: _Offsets = {}
    for name, node in nodes.items():
        below = {
            line: [
                places[link.lower]
                for between in links
                for link in between
                if link.line == line and link.upper == name
            ]
            for line, _ in node.gives
        }
        x = -_row_width(node.gives) / 2
        for line, width in sorted(
            node.gives, key=lambda give: sum(below[give[0]]) / max(len(below[give[0]]), 1)
        ):
            offsets[name, line, True] = x + width / 2
            x += width + PORT_GAP
    for between in links:
        ends: dict[str, list[_Link]] = {}
        for link in between:
            if isinstance(link.lower, str):
                ends.setdefault(link.lower, []).append(link)
        for name, here in ends.items():
            here.sort(key=lambda k: (places[k.upper], offsets.get((k.upper, k.line, True), 0.0)))
            step = min(_MAX_PORT_STEP, nodes[name].width / (len(here) + 1))
            for i, link in enumerate(here):
                offsets[name, link.line, False] = (i - (len(here) - 1) / 2) * step
    return offsets


def _row_width(gives: Sequence[tuple[str, float]]) -> float:
    """Width of what a node keeps free below it for its lines."""
    return sum(width for _, width in gives) + PORT_GAP * max(len(gives) - 1, 0)


def _widths(nodes: Mapping[str, Node], layer: Sequence[_Item]) -> list[float]:
    return [
        max(nodes[item].width, _row_width(nodes[item].gives)) if isinstance(item, str) else _BEND
        for item in layer
    ]


def _middles(
    nodes: Mapping[str, Node], layers: _Layers, links: _Links, offsets: _Offsets
) -> dict[_Item, float]:
    """The middle of each item: lines as straight as the widths of their layers allow."""
    apart = []
    middles: dict[_Item, float] = {}
    for layer in layers:
        widths = _widths(nodes, layer)
        apart.append([(a + b) / 2 + _GAP for a, b in itertools.pairwise(widths)])
        start = _spread([0.0] * len(layer), [1.0] * len(layer), apart[-1])
        middles |= zip(layer, start, strict=True)
    pulls = _pulls(links, offsets)
    for sweep in range(_PULLS):
        # The later sweeps balance above and below.
        sides = ((-1,), (1,))[sweep % 2] if sweep < _PULLS // 2 else (-1, 1)
        for r in range(len(layers)) if sweep % 2 == 0 else range(len(layers) - 1, -1, -1):
            desired, weights = [], []
            for item in layers[r]:
                pulling = [pull for pull in pulls.get(item, ()) if pull.side in sides]
                weight = sum(pull.weight for pull in pulling)
                total = sum((middles[pull.other] + pull.shift) * pull.weight for pull in pulling)
                desired.append(total / weight if weight else middles[item])
                weights.append(weight or 0.1)
            middles |= zip(layers[r], _spread(desired, weights, apart[r]), strict=True)
    _straighten(layers, apart, pulls, middles)
    return middles


class _Pull(NamedTuple):
    """What draws an item to a place."""

    side: int
    """-1 from above, 1 from below."""
    other: _Item
    shift: float
    """To the other's middle, for the line to run straight."""
    weight: float


def _pulls(links: _Links, offsets: _Offsets) -> dict[_Item, list[_Pull]]:
    pulls: dict[_Item, list[_Pull]] = {}
    for line, upper, lower in itertools.chain.from_iterable(links):
        shift = offsets.get((upper, line, True), 0.0) - offsets.get((lower, line, False), 0.0)
        # Graphviz's weights: a line that winds between layers is seen first.
        weight = (1.0, 2.0, 8.0)[isinstance(upper, _Bend) + isinstance(lower, _Bend)]
        pulls.setdefault(lower, []).append(_Pull(-1, upper, shift, weight))
        pulls.setdefault(upper, []).append(_Pull(1, lower, -shift, weight))
    return pulls


def _straighten(
    layers: _Layers,
    apart: Sequence[Sequence[float]],
    pulls: Mapping[_Item, list[_Pull]],
    middles: dict[_Item, float],
) -> None:
    """Put bends, and nodes that nearly are, right below where their line comes from."""
    for layer, distances in zip(layers, apart, strict=True):
        for i, item in enumerate(layer):
            above = [pull for pull in pulls.get(item, ()) if pull.side < 0]
            if len(above) != 1:
                continue
            place = middles[above[0].other] + above[0].shift
            if i > 0:
                place = max(place, middles[layer[i - 1]] + distances[i - 1])
            if i < len(distances):
                place = min(place, middles[layer[i + 1]] - distances[i])
            if isinstance(item, _Bend) or abs(place - middles[item]) < _NEARLY:
                middles[item] = place


def _spread(
    desired: Sequence[float], weights: Sequence[float], apart: Sequence[float]
) -> list[float]:
    """Nearest to the desired places, in least squares, among those that far apart.

    Without the distances this is isotonic regression, which pooling of neighbours solves.
    """
    shifts = [0.0]
    for distance in apart:
        shifts.append(shifts[-1] + distance)
    pools: list[tuple[float, float, int]] = []
    for place, weight, shift in zip(desired, weights, shifts, strict=False):
        mean, total, count = place - shift, weight, 1
        while pools and pools[-1][0] > mean:
            before, its_weight, its_count = pools.pop()
            mean = (mean * total + before * its_weight) / (total + its_weight)
            total, count = total + its_weight, count + its_count
        pools.append((mean, total, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    return [mean + shift for mean, shift in zip(means, shifts, strict=False)]


def _layout(
    nodes: Mapping[str, Node],
    layers: _Layers,
    links: _Links,
    offsets: _Offsets,
    middles: Mapping[_Item, float],
) -> Layout:
    sides = [
        (middles[item] - width / 2, middles[item] + width / 2)
        for layer in layers
        for item, width in zip(layer, _widths(nodes, layer), strict=True)
    ]
    left = min((side[0] for side in sides), default=0.0)
    width = max((side[1] for side in sides), default=0.0) - left
    middles = {item: x - left for item, x in middles.items()}
    layout = Layout(width, 0.0, {}, {}, [])
    bottom = 0.0
    for r, layer in enumerate(layers):
        pieces = _between(links[r - 1], offsets, middles) if r else []
        # Long ways aside need height, or they lie flat on each other.
        aside = max((abs(x1 - x0) for _, x0, x1 in pieces), default=0.0)
        top = bottom + min(max(_MIN_DROP, 0.2 * aside), _MAX_DROP) if r else 0.0
        for link, x0, x1 in pieces:
            ends = isinstance(link.lower, str)
            head = ARROW if ends else 0.0
            layout.lines[link.line].append(Segment(x0, bottom, x1, top - head))
            if ends:
                layout.ends.append((x1, top))
        bottom = top + max((nodes[i].height for i in layer if isinstance(i, str)), default=0.0)
        for item in layer:
            x = middles[item]
            if isinstance(item, _Bend):
                layout.lines[item.line].append(Segment(x, top, x, bottom))
                continue
            layout.nodes[item] = (x, top)
            for line, _ in nodes[item].gives:
                begin = x + offsets[item, line, True]
                layout.lines[line] = [Segment(begin, top + nodes[item].height, begin, bottom)]
    return layout._replace(height=bottom)


def _between(
    links: Sequence[_Link], offsets: _Offsets, middles: Mapping[_Item, float]
) -> list[tuple[_Link, float, float]]:
    """(link, where it begins, where it ends) of the links between two layers."""
    return [
        (
            link,
            middles[link.upper] + offsets.get((link.upper, link.line, True), 0.0),
            middles[link.lower] + offsets.get((link.lower, link.line, False), 0.0),
        )
        for link in links
    ]
