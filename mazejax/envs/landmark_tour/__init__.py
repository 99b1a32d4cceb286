"""Visit all landmarks on a short way: a manager decides where to, a worker walks there."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ChooseLandmark": "mazejax.envs.landmark_tour.conversions",
        "LandmarkTour": "mazejax.envs.landmark_tour.core",
        "ManagerObservation": "mazejax.envs.landmark_tour.conversions",
        "NearestLandmarkPolicy": "mazejax.envs.landmark_tour.policies",
        "OptimalTourPolicy": "mazejax.envs.landmark_tour.policies",
        "TourEvents": "mazejax.envs.landmark_tour.events",
        "TourKPIs": "mazejax.envs.landmark_tour.events",
        "TourState": "mazejax.envs.landmark_tour.core",
        "WorkerObservation": "mazejax.envs.landmark_tour.conversions",
        "make_landmark_tour": "mazejax.envs.landmark_tour.make",
        "shortest_tour": "mazejax.envs.landmark_tour.policies",
    },
)
