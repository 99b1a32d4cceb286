"""Built-in events: what happens in every env, whatever its problem is.

Rewards, steps and episodes, KPIs, lost firings; actions and observations by kind; what
policies think. Names are Maze's, since they are the paths in tables, TensorBoard and files.
"""

from mazejax.events.levels import episode_stats, epoch_stats, step_stats
from mazejax.events.topic import Attribute, Event, Topic

_SPREAD = ("mean", "std", "min", "max")
_SUMS = (
    step_stats("sum", "value"),
    episode_stats("sum", "value"),
    *(epoch_stats(reducer, "value") for reducer in _SPREAD),
)
_MEANS = (
    step_stats("mean", "value"),
    episode_stats("mean", "value"),
    *(epoch_stats(reducer, "value") for reducer in ("mean", "std")),
)
_HISTOGRAM = (
    episode_stats("histogram", "value"),
    epoch_stats("histogram", "value", "histogram"),
)


class BaseEnvEvents(Topic):
    """What every episode has."""

    reward = Event(
        "The reward that a flat step returned, over all sub-steps and agents.",
        {"value": Attribute()},
        statistics=(
            step_stats("sum", "value"),
            episode_stats("sum", "value", "sum"),
            episode_stats("count", "value", "count"),
            *(epoch_stats(reducer, "sum", reducer) for reducer in _SPREAD),
            epoch_stats("mean", "count", "mean_step_count"),
            epoch_stats("median", "count", "median_step_count"),
            epoch_stats("count", "count", "episode_count"),
            epoch_stats("sum", "count", "total_step_count", cumulative=True),
            epoch_stats("count", "count", "total_episode_count", cumulative=True),
        ),
    )
    kpi = Event(
        "An episode ended with this KPI.",
        {"name": Attribute((), "int32", categories=("",)), "value": Attribute()},
        group_by="name",
        statistics=tuple(epoch_stats(reducer, "value") for reducer in _SPREAD),
    )
    lost_firings = Event(
        "An event was fired more often in a sub-step than its capacity; attributes were lost.",
        {"name": Attribute((), "int32", categories=("",)), "number": Attribute((), "int32")},
        group_by="name",
        statistics=(epoch_stats("sum", "number"),),
    )


class RewardEvents(Topic):
    """Rewards before and after the wrappers that change them."""

    reward_original = Event(
        "The reward of a flat step as the env itself gave it.",
        {"value": Attribute()},
        statistics=_SUMS,
    )
    reward_processed = Event(
        "The reward of a sub-step as the learner gets it.",
        {"value": Attribute()},
        statistics=_SUMS,
    )
    reward_part = Event(
        "One of the parts that a reward is the weighted sum of.",
        {"name": Attribute((), "int32", categories=("",)), "value": Attribute()},
        group_by="name",
        statistics=_SUMS,
    )


class ActionEvents(Topic):
    """What agents do, by the kind of the action."""

    discrete_action = Event(
        "A choice among categories.",
        {"value": Attribute((), "int32", categories=2)},
        statistics=_HISTOGRAM,
        plot="relative_bars",
    )
    multi_binary_action = Event(
        "Several yes or no at once.",
        {"value": Attribute((1,), "bool")},
        statistics=_HISTOGRAM,
        plot="binary_bars",
    )
    continuous_action = Event(
        "A vector of numbers.",
        {"value": Attribute((1,))},
        statistics=_HISTOGRAM,
        plot="violin",
    )


class ObservationEvents(Topic):
    """What agents see, all entries of an observation together."""

    observation_original = Event(
        "An observation as the env itself gives it.", {"value": Attribute()}, statistics=_HISTOGRAM
    )
    observation_processed = Event(
        "An observation as the policy gets it.", {"value": Attribute()}, statistics=_HISTOGRAM
    )


class ObservationVisualizationEvents(Topic):
    """Observations that somebody wants to look at, entry by entry."""

    observation_to_visualize = Event(
        "An observation as a vector.", {"value": Attribute((1,))}, statistics=_HISTOGRAM
    )


class PolicyEvents(Topic):
    """What policies and critics think."""

    value = Event(
        "The critic's value of an observation.", {"value": Attribute()}, statistics=_MEANS
    )
    entropy = Event(
        "The entropy of the distribution that an action was drawn from, in nats.",
        {"value": Attribute()},
        statistics=_MEANS,
    )


def kpi_event(names: tuple[str, ...]) -> Event:
    """The event of KPIs with these names."""
    name = Attribute((), "int32", categories=names)
    return BaseEnvEvents.kpi.labelled(attributes={"name": name, "value": Attribute()})


def part_event(names: tuple[str, ...]) -> Event:
    """The event of the parts of a reward with these names; all are fired in every sub-step."""
    name = Attribute((), "int32", categories=names)
    attributes = {"name": name, "value": Attribute()}
    return RewardEvents.reward_part.labelled(attributes=attributes, capacity=len(names))


def lost_event(events: tuple[Event, ...]) -> Event:
    """The event of firings of these events that were lost."""
    name = Attribute((), "int32", categories=tuple(event.id for event in events))
    number = Attribute((), "int32")
    return BaseEnvEvents.lost_firings.labelled(attributes={"name": name, "number": number})
