"""Pictures of what happened: scenes as pixels, frames as files, numbers as curves.

Everything here runs on the host and needs neither a display nor a browser. Every name is
imported when it is first used; Pillow and matplotlib when they are needed.
"""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "draw_distribution": "mazejax.rendering.distributions",
        "rasterize": "mazejax.rendering.rasterizer",
        "player_html": "mazejax.rendering.frames",
        "write_gif": "mazejax.rendering.frames",
        "write_html": "mazejax.rendering.frames",
        "Curve": "mazejax.rendering.plots",
        "plot_comparison": "mazejax.rendering.plots",
        "plot_curves": "mazejax.rendering.plots",
        "InferenceGraph": "mazejax.rendering.network_graph",
        "network_graphs": "mazejax.rendering.network_graph",
    },
)
