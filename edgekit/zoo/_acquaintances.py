"""Who met whom: graphs of people, of whose classes few are known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import networkx as nx
import numpy as np

from edgekit.zoo._graphs import Graph

__all__ = ["CLUBS", "COMMUNITIES", "Both", "club", "novel"]

CLUBS = ("Mr. Hi", "Officer")
_INSTRUCTOR, _PRESIDENT = 0, 33
COMMUNITIES, _KNOWN = 6, 2

#: The graph to learn on and to be judged on: they differ in whose class is known.
Both = tuple[Graph, Graph]


@cache
def club() -> Both:
    """Zachary's, of which the instructor and the president are known."""
    members = nx.karate_club_graph()
    sides = [CLUBS.index(members.nodes[member]["club"]) for member in members]
    return _partly_known(members, sides, [_INSTRUCTOR, _PRESIDENT])


@cache
def novel() -> Both:
    """Knuth's of Les Miserables, in Louvain's communities, of each of which two are known."""
    graph = nx.les_miserables_graph()
    found = nx.community.louvain_communities(graph, seed=0)
    place = {one: number for number, community in enumerate(found) for one in community}
    names = list(graph)
    known = [
        names.index(one)
        for community in found
        for one in sorted(community, key=lambda one: (-graph.degree[one], one))[:_KNOWN]
    ]
    return _partly_known(graph, [place[one] for one in names], known)


def _partly_known(graph: nx.Graph, classes: Sequence[int], known: Sequence[int]) -> Both:
    places = {one: number for number, one in enumerate(graph)}
    pairs = [(places[one], places[other]) for one, other in graph.edges]
    edges = np.array([way for pair in pairs for way in (pair, pair[::-1])], np.int64).T
    features = np.eye(len(places), dtype=np.float32)
    others = np.setdiff1d(np.arange(len(places)), known)
    labels = np.array(classes)
    return (
        Graph(features, edges, labels, np.array(known)),
        Graph(features, edges, labels, others),
    )
