"""A recurrent state space model, and how Dreamer learns it and acts in its imagination.

Dreamer, Hafner et al. 2020, with the losses of its third version (2023): the state has a part that
a GRU carries and a random part; the prior guesses the random part from the first, the posterior
sees the observation, too. The actor follows the gradient of imagined returns.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._gym import perceptron

__all__ = ["CARRIED", "RANDOM", "Dreaming", "WorldModel"]

CARRIED, RANDOM = 64, 16
_WIDTH = 64
_DISCOUNT, _TRACE, _AHEAD = 0.98, 0.95, 15
_FREE, _DYNAMICS, _REPRESENTATION = 0.5, 0.5, 0.1
#: How sure the decoders are: the standard deviation of what they say.
_SURE = 0.1
_ENTROPY, _FOLLOW, _LARGEST = 1e-2, 0.05, 10.0
#: The logarithm of an action's deviation is between these: it never stops trying others.
_SPREAD = -2.3, 0.0
#: Of the world model, the actor and the critic.
_RATES = 2e-3, 1e-3, 1e-3

#: The carried and the random part of a state.
State = tuple[torch.Tensor, torch.Tensor]


class WorldModel(nn.Module):
    """The state after an action, what is seen in it, and the reward."""

    def __init__(self, seen: int, actions: int) -> None:
        super().__init__()
        self.enter = nn.Linear(RANDOM + actions, _WIDTH)
        self.carry = nn.GRUCell(_WIDTH, CARRIED)
        self.prior = perceptron(CARRIED, _WIDTH, 2 * RANDOM, activation=nn.ELU)
        self.posterior = perceptron(CARRIED + seen, _WIDTH, 2 * RANDOM, activation=nn.ELU)
        self.decoder = perceptron(CARRIED + RANDOM, _WIDTH, seen, activation=nn.ELU)
        self.reward = perceptron(CARRIED + RANDOM, _WIDTH, 1, activation=nn.ELU)

    def carried(self, state: State, action: torch.Tensor) -> torch.Tensor:
        """The part that the GRU carries through an action."""
        entering = functional.elu(self.enter(torch.cat([state[1], action], 1)))
        carried: torch.Tensor = self.carry(entering, state[0])
        return carried

    def guessed(self, carried: torch.Tensor) -> torch.distributions.Normal:
        """The random part without an observation."""
        return _normal(self.prior(carried))

    def observed(self, carried: torch.Tensor, seen: torch.Tensor) -> torch.distributions.Normal:
        """The random part with an observation."""
        return _normal(self.posterior(torch.cat([carried, seen], 1)))


def _normal(made: torch.Tensor) -> torch.distributions.Normal:
    mean, spread = made.chunk(2, 1)
    return torch.distributions.Normal(mean, functional.softplus(spread) + 0.05, validate_args=False)


class Dreaming:
    """Learns a world model from what was played, and an actor from what the model imagines.

    Args:
        world: the world model.
        actor: gives means and logarithms of deviations (n, 2 * actions) in states.
    """

    def __init__(self, world: WorldModel, actor: nn.Module) -> None:
        self._world, self._actor = world, actor
        self._critic = perceptron(CARRIED + RANDOM, _WIDTH, _WIDTH, 1, activation=nn.ELU)
        self._slow = deepcopy(self._critic)
        self._optimizers = [
            torch.optim.Adam(one.parameters(), lr=rate, eps=1e-6)
            for one, rate in zip((world, actor, self._critic), _RATES, strict=True)
        ]

    def step(self, pieces: tuple[torch.Tensor, torch.Tensor, torch.Tensor], left: float) -> None:
        """Learn from pieces of episodes.

        Args:
            pieces: what is seen, the actions that led there, the rewards for them; (n, steps, ...).
            left: share of the training that is left; the rates fall in its second half.
        """
        loss, states = self._model_loss(*pieces)
        self._descend(0, self._world, loss, left)
        start = torch.cat([one[0] for one in states]).detach()
        start_random = torch.cat([one[1] for one in states]).detach()
        features, rewards, entropy = self._imagined((start, start_random))
        values = self._slow(features).squeeze(-1)
        wanted = _returns(rewards, values)
        self._descend(1, self._actor, -(wanted.mean() + _ENTROPY * entropy), left)
        guess = self._critic(features[:-1].detach()).squeeze(-1)
        self._descend(2, self._critic, functional.mse_loss(guess, wanted.detach()), left)
        with torch.no_grad():
            for slow, fast in zip(self._slow.parameters(), self._critic.parameters(), strict=True):
                slow.lerp_(fast, _FOLLOW)

    def _model_loss(
        self, seen: torch.Tensor, action: torch.Tensor, reward: torch.Tensor
    ) -> tuple[torch.Tensor, list[State]]:
        world = self._world
        state = seen.new_zeros(len(seen), CARRIED), seen.new_zeros(len(seen), RANDOM)
        states: list[State] = []
        divergences = []
        for step in range(seen.shape[1]):
            carried = world.carried(state, action[:, step])
            prior, posterior = world.guessed(carried), world.observed(carried, seen[:, step])
            state = carried, posterior.rsample()
            states.append(state)
            divergences.append(
                _DYNAMICS * _divergence(_fixed(posterior), prior)
                + _REPRESENTATION * _divergence(posterior, _fixed(prior))
            )
        features = torch.stack([torch.cat(one, 1) for one in states], 1)
        missed = ((world.decoder(features) - seen) ** 2).sum(-1)
        missed = missed + (world.reward(features) - reward).squeeze(-1) ** 2
        return missed.mean() / (2 * _SURE**2) + torch.stack(divergences).mean(), states

    def _imagined(self, state: State) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """States (steps + 1, n, d) and rewards (steps, n) of the actor's own actions, and how
        random these were.
        """
        features = [torch.cat(state, 1)]
        entropies = []
        for _ in range(_AHEAD):
            mean, log_deviation = self._actor(features[-1].detach()).chunk(2, 1)
            log_deviation = log_deviation.clamp(*_SPREAD)
            raw = mean + log_deviation.exp() * torch.randn_like(mean)
            action = torch.tanh(raw)
            entropies.append((log_deviation + torch.log(1 - action**2 + 1e-6)).mean())
            carried = self._world.carried(state, action)
            state = carried, self._world.guessed(carried).rsample()
            features.append(torch.cat(state, 1))
        every = torch.stack(features)
        return every, self._world.reward(every[1:]).squeeze(-1), torch.stack(entropies).mean()

    def _descend(self, index: int, module: nn.Module, loss: torch.Tensor, left: float) -> None:
        optimizer, rate = self._optimizers[index], _RATES[index]
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, 0.05 + 2 * left)
        parameters = list(module.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(parameters, _LARGEST)
        optimizer.step()


def _fixed(normal: torch.distributions.Normal) -> torch.distributions.Normal:
    return torch.distributions.Normal(
        normal.mean.detach(), normal.stddev.detach(), validate_args=False
    )


def _divergence(one: torch.distributions.Normal, other: torch.distributions.Normal) -> torch.Tensor:
    """The divergence of each state; below the free nats there is nothing to gain."""
    nats = torch.distributions.kl_divergence(one, other).sum(1)
    return nats.clamp(min=_FREE).mean()


def _returns(rewards: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Returns (steps, n) that trust the values more the further ahead they are."""
    following = values[-1]
    made = []
    for step in reversed(range(len(rewards))):
        mixed = (1 - _TRACE) * values[step + 1] + _TRACE * following
        following = rewards[step] + _DISCOUNT * mixed
        made.append(following)
    return torch.stack(made[::-1])
