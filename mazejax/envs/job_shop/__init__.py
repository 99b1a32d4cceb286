"""Job-shop scheduling: dispatch operations one after another, and finish all of them early."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "FT06": "mazejax.envs.job_shop.instances",
        "FT10": "mazejax.envs.job_shop.instances",
        "OPTIMAL_ORDERS": "mazejax.envs.job_shop.instances",
        "DispatchJob": "mazejax.envs.job_shop.conversions",
        "DispatchOrder": "mazejax.envs.job_shop.policies",
        "DispatchingRule": "mazejax.envs.job_shop.policies",
        "FixedInstance": "mazejax.envs.job_shop.instances",
        "Instances": "mazejax.envs.job_shop.instances",
        "JobFeatures": "mazejax.envs.job_shop.conversions",
        "JobShop": "mazejax.envs.job_shop.core",
        "JobShopEvents": "mazejax.envs.job_shop.events",
        "JobShopKPIs": "mazejax.envs.job_shop.events",
        "JobShopState": "mazejax.envs.job_shop.core",
        "UniformInstances": "mazejax.envs.job_shop.instances",
        "draw_schedule": "mazejax.envs.job_shop.drawing",
        "make_job_shop": "mazejax.envs.job_shop.make",
    },
)
