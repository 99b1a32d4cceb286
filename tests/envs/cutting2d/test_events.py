"""The topics of Cutting-2D."""

from mazejax.envs.cutting2d.events import CuttingEvents, InventoryEvents


def test_the_topics_declare_the_events_of_the_tutorial():
    said = {
        event.id: sorted(event.attributes)
        for event in (*CuttingEvents.events, *InventoryEvents.events)
    }
    sizes = ["current_demand", "piece_to_cut", "raw_piece_size"]
    assert said == {
        "CuttingEvents.invalid_piece_selected": [],
        "CuttingEvents.valid_cut": sizes,
        "CuttingEvents.invalid_cut": sizes,
        "InventoryEvents.piece_discarded": ["piece"],
        "InventoryEvents.piece_replenished": [],
        "InventoryEvents.pieces_in_inventory": ["value"],
    }
    assert InventoryEvents.piece_discarded.capacity == 2
