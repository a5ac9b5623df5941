"""The graphs of the zoo are what they say, and its layers what their papers say."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from edgekit.spec import Feeds
from edgekit.zoo import _molecules, gat
from edgekit.zoo._graphs import digits_graph, summed, with_loops
from edgekit.zoo.graphsage import sampled


def test_no_held_out_digit_is_in_the_graph_to_learn_on() -> None:
    digits = digits_graph()
    seen, whole = digits.seen, digits.whole
    assert len(seen.features) == 797
    assert seen.edges.max() < 797
    assert len(seen.counted) == 200
    np.testing.assert_array_equal(whole.features[:797], seen.features)
    np.testing.assert_array_equal(whole.counted, np.arange(797, 1797))


def test_a_part_of_a_graph_keeps_the_edges_among_its_nodes() -> None:
    seen = digits_graph().seen
    nodes = np.array([5, 3, 200, 7, *range(300, 350)])
    part = seen.part(nodes)
    kept = {(nodes[a], nodes[b]) for a, b in part["edges"].T}
    assert kept == {(a, b) for a, b in seen.edges.T if a in nodes and b in nodes}
    assert kept


def test_attention_is_a_softmax_over_the_edges_of_each_node() -> None:
    torch.manual_seed(0)
    layer = gat._Attention(6, 4, heads=2).eval()
    x, edges = torch.randn(7, 6), with_loops(torch.randint(7, (2, 20)), 7)
    edges = torch.unique(edges, dim=1)
    joined = torch.zeros(7, 7, dtype=torch.bool)
    joined[edges[1], edges[0]] = True
    values = layer.linear(x).unflatten(1, (2, 4))
    sends, takes = (values * layer.sender).sum(-1), (values * layer.receiver).sum(-1)
    scores = torch.nn.functional.leaky_relu(takes[:, None] + sends[None], 0.2)
    shares = scores.masked_fill(~joined[..., None], -torch.inf).softmax(1)
    wanted = torch.einsum("ijh,jhc->ihc", shares, values) + layer.bias
    torch.testing.assert_close(layer(x, edges), wanted)


def test_attention_does_not_overflow() -> None:
    torch.manual_seed(0)
    layer = gat._Attention(6, 4, heads=2).eval()
    edges = with_loops(torch.randint(7, (2, 20)), 7)
    assert layer(torch.randn(7, 6) + 1e4, edges).isfinite().all()


def test_messages_to_one_node_are_added_up() -> None:
    edges = torch.tensor([[0, 1, 2], [1, 1, 0]])
    made = summed(torch.tensor([[1.0], [2.0], [4.0]]), edges, 3)
    torch.testing.assert_close(made, torch.tensor([[4.0], [3.0], [0.0]]))


def test_sampled_neighbours_are_neighbours_and_the_same_for_a_seed() -> None:
    graph = digits_graph().seen
    asked = np.arange(20)
    one, same, other = (sampled(graph, asked, np.random.default_rng(seed)) for seed in (3, 3, 4))
    joined = {(int(a), int(b)) for a, b in graph.edges.T}
    for node, near, far in zip(asked, one["near"], one["far"], strict=True):
        assert all((sender, node) in joined for sender in near)
        for receiver, senders in zip([node, *near], far, strict=True):
            assert all((sender, receiver) in joined for sender in senders)
    np.testing.assert_array_equal(one["far"], same["far"])
    assert (one["far"] != other["far"]).any()


def test_molecules_are_connected_and_their_paths_the_shortest() -> None:
    for size in _molecules.molecules(20, held_out=True):
        for distances, paths in zip(size.distances, size.paths, strict=True):
            graph = nx.from_numpy_array(distances == 1)
            assert max(degree for _, degree in graph.degree) <= 3
            lengths = dict(nx.all_pairs_shortest_path_length(graph))
            wanted = [[lengths[a][b] for b in graph] for a in graph]
            np.testing.assert_array_equal(distances, wanted)
            told = np.minimum(distances, _molecules.PATH)
            np.testing.assert_array_equal((paths > 0).sum(-1), told)
            np.testing.assert_array_equal(paths[distances == 1][:, 0] > 0, True)


def test_no_held_out_molecule_is_learnt_in_another_order() -> None:
    learnt, held_out = (
        [size.feeds(slice(None)) for size in _molecules.molecules(400, held_out=held_out)]
        for held_out in (False, True)
    )

    def told(feeds: Feeds, row: int) -> str:
        bonds = np.where(feeds["distances"][row] == 1, feeds["paths"][row, ..., 0], 0)
        graph = nx.from_numpy_array(bonds)
        nx.set_node_attributes(graph, dict(enumerate(feeds["atoms"][row].astype(str))), "atom")
        return nx.weisfeiler_lehman_graph_hash(graph, edge_attr="weight", node_attr="atom")

    seen = {told(feeds, row) for feeds in learnt for row in range(400)}
    assert not seen & {told(feeds, row) for feeds in held_out for row in range(400)}


def test_the_gap_of_ethylene_and_butadiene() -> None:
    ethylene = _molecules._told(np.ones((1, 2), np.int64), np.array([[[0, 2], [2, 0]]]))
    assert ethylene.gap[0] == pytest.approx(2.2)
    chain = np.diag([2, 1, 2], 1)
    butadiene = _molecules._told(np.ones((1, 4), np.int64), (chain + chain.T)[None])
    # x**2 - 0.9 x - 1.21 = 0 for the symmetric orbitals, with the other sign for the others
    wanted = 2 * (np.sqrt(0.9**2 / 4 + 1.21) - 0.45)
    assert butadiene.gap[0] == pytest.approx(wanted, rel=1e-5)
