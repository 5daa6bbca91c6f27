"""The network and its losses once more, slowly: one session, one stock, one pair at a time (SPEC 4-7.1 and 8).

It shares no code with the package. Parameters are `state_dict()` as float64 arrays, the configuration is any object
with the keys of SPEC's table as attributes. Only active stocks enter a sum.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit

EPS = 1e-8
GROUPS = [range(0, 6), range(6, 14), range(14, 21), range(21, 29)]
SIX = [range(0, 6), (6, 7, 8, 11), (9, 10, 12, 13), range(14, 21), (21, 22, 25, 28), (23, 24, 26, 27)]
HORIZONS = (1, 3, 5)


# --- small parts -----------------------------------------------------------------------------------------------------
def softmax(values):
    e = np.exp(np.asarray(values) - max(values))
    return e / e.sum()


def relu(v):
    return np.maximum(v, 0)


def norm(v):
    return math.sqrt((v**2).sum() + EPS)


def cosine(a, b):
    return (a @ b) / math.sqrt((a @ a) * (b @ b))


def attention(q, k, v, heads):
    """Rows attend to rows; every head owns a block of columns. Returns the heads side by side."""
    size = q.shape[1] // heads
    out = np.zeros_like(v)
    for h in range(heads):
        block = slice(h * size, (h + 1) * size)
        for i in range(len(q)):
            w = softmax(k[:, block] @ q[i, block] / math.sqrt(size))
            out[i, block] = w @ v[:, block]
    return out


class Oracle:
    """`run` on consecutive sessions gives every named field of the network's output; inactive rows are 0.

    A field in `given` replaces what was computed under that name for everything downstream of it, so that each equation
    can be judged on its own inputs.
    """

    def __init__(self, parameters, config, groups=GROUPS):
        self.p, self.c = parameters, config
        contagion = list(groups[2])
        others = [j for k in (0, 1, 3) for j in groups[k]]
        self.groups, self.spatial = {
            "four": (groups, 2),
            "one": ([sorted(others + contagion)], None),
            "two": ([sorted(others), contagion], 1),
            "six": (SIX, 3),
        }[config.mechanisms]

    def run(self, x, active, prior, stress, given=None):
        days = []
        for b in range(len(active)):
            said = {name: np.asarray(values)[b] for name, values in (given or {}).items()}
            days.append(self.day(x[b : b + self.c.window], active[b], prior, stress[b], said))
        return {name: np.array([day[name] for day in days]) for name in days[0]}

    def linear(self, name, v):
        bias = self.p.get(f"{name}.bias")
        return self.p[f"{name}.weight"] @ v + (0 if bias is None else bias)

    def mlp(self, name, v, layers):
        """Linear layers with a ReLU between them."""
        for n in layers[:-1]:
            v = relu(self.linear(f"{name}.{n}", v))
        return self.linear(f"{name}.{layers[-1]}", v)

    # --- one session -------------------------------------------------------------------------------------------------
    def day(self, window, active, prior, stress, given):
        found, n = {}, len(active)
        on = [i for i in range(n) if active[i]]

        def say(name, value):
            found[name] = np.asarray(value, float)
            return given.get(name, found[name])

        def rows(f):
            values = {i: np.asarray(f(i)) for i in on}
            out = np.zeros((n, *values[on[0]].shape))
            for i, value in values.items():
                out[i] = value
            return out

        last = window[-1]
        edges = np.zeros((n, n))
        for i in on:
            for j in on:
                if i != j:
                    edges[i, j] = prior[i, j]

        # module 1
        h_temp = say("h_temp", rows(lambda i: self.temporal(window[:, i])))
        if not self.c.use_prior:
            edges = np.zeros((n, n))
        h_spat = say("h_spat", self.smooth(last, on, edges))
        q = rows(lambda i: self.linear("encoder.cross_query", h_temp[i]))
        k = rows(lambda i: self.linear("encoder.cross_key", h_spat[i]))
        v = rows(lambda i: self.linear("encoder.cross_value", h_spat[i]))
        size = q.shape[1]
        weights = np.zeros((n, n))
        for i in on:
            weights[i, on] = softmax([q[i] @ k[j] / math.sqrt(size) for j in on])
            if self.c.cross_attention == "uniform":
                weights[i, on] = 1 / len(on)
        weights = say("cross_weights", weights)
        h_fused = rows(lambda i: self.linear("encoder.cross_out", sum(weights[i, j] * v[j] for j in on)) + h_temp[i])
        z = say("z", rows(lambda i: np.concatenate([h_temp[i], h_spat[i]])))
        context = say("context", rows(lambda i: np.tanh(self.linear("encoder.context", h_fused[i]))))

        # module 2
        psi = say("psi", self.psi(stress))
        source = say("source_weights", self.source_weights(psi))
        similarity = say("similarity", self.similarity(z, context, edges, source, on))
        kappa = say("kappa", rows(lambda i: self.kth_largest(similarity, i, on)))
        support = say("support", similarity >= kappa[:, None])
        learned = say("learned", self.learned(similarity, kappa, support, on))
        a, b = self.p["graph.alpha.a"], self.p["graph.alpha.b"]
        steered = a + b * psi if self.c.alpha_rule == "stress" else a
        steered = self.c.alpha_fixed if self.c.alpha_rule == "fixed" else min(max(expit(steered), 0.2), 0.8)
        alpha = say("alpha", steered)
        static = edges
        if self.c.fusion_scale == "row":
            static = rows(lambda i: edges[i] / (edges[i].sum() + EPS))
        fused = say("fused", alpha * static + (1 - alpha) * learned)
        z_ref = say("z_ref", self.refine(z, fused, on))
        z_final = say("z_final", rows(lambda i: z[i] + 0.5 * np.concatenate([z_ref[i], np.zeros(len(z_ref[i]))])))

        # module 3
        signal = say("category_signal", rows(lambda i: [np.mean(np.abs(last[i, list(g)])) for g in self.groups]))
        tau_b = abs(self.p["experts.gate.tau_b"].item())
        tau = say("tau", tau_b + 0.5 * (psi if self.c.tau_rule == "rising" else 1 - psi))
        q, k, v = ([self.linear(f"experts.gate.{m}", z_final[i]) for i in on] for m in ("query", "key", "value"))
        mixed = attention(np.array(q), np.array(k), np.array(v), self.c.attention_heads)
        around = {i: self.linear("experts.gate.out", mixed[row]) for row, i in enumerate(on)}
        routing = rows(lambda i: self.choose(softmax(self.logits(z_final[i], around[i], psi, signal[i]) / tau)))
        routing, n_experts = say("routing", routing), len(self.groups)
        latents, errors, rebuilt = (
            np.zeros((n, n_experts, self.c.latent)),
            np.zeros((n, n_experts)),
            np.zeros_like(last),
        )
        for i in on:
            for k, group in enumerate(self.groups):
                f = last[i, list(group)]
                embedding = z_final[i]
                if k == self.spatial:
                    embedding = z_ref[i] if self.c.contagion_sees == "refined" else h_spat[i]
                latents[i, k] = self.mlp(f"experts.expert.{k}.encode", np.concatenate([embedding, f]), (0, 2))
                again = self.mlp(f"experts.expert.{k}.decode", np.concatenate([embedding, latents[i, k]]), (0, 2))
                if self.c.expert_task == "predict":
                    again = np.array([self.guess(k, embedding, f, j) for j in range(len(f))])
                rebuilt[i, list(group)] = again
                errors[i, k] = norm(f - again)
        say("rebuilt", rebuilt)
        errors = say("expert_error", errors)
        moe = say("moe_error", rows(lambda i: sum(routing[i, k] * errors[i, k] for k in range(n_experts))))
        latent = say("latent", rows(lambda i: sum(routing[i, k] * latents[i, k] for k in range(n_experts))))

        # module 4
        horizon = rows(lambda i: [self.horizon_error(d, window[:, i], latent[i]) for d in range(3)])
        horizon = say("horizon_error", horizon)
        rec = say("rec_error", rows(lambda i: 0.5 * horizon[i, 0] + 0.3 * horizon[i, 1] + 0.2 * horizon[i, 2]))
        say("error", 0.6 * moe + 0.4 * rec)
        return found

    # --- module 1 ----------------------------------------------------------------------------------------------------
    def temporal(self, window):
        """4.1-4.3: [T, F] of one stock -> [128]."""
        steps = [(row - row.mean()) / (row.std() + EPS) for row in window]
        if self.c.bilstm_projection:
            steps = [self.linear("encoder.project", row) for row in steps]
        forward = self.lstm(steps, "")
        backward = self.lstm(steps[::-1], "_reverse")[::-1]
        h = np.array([np.concatenate(pair) for pair in zip(forward, backward, strict=True)])
        q, k, v = (np.array([self.linear(f"encoder.{m}", row) for row in h]) for m in ("query", "key", "value"))
        attended = np.array([self.linear("encoder.out", row) for row in attention(q, k, v, self.c.attention_heads)])
        return self.mlp("encoder.pool", np.concatenate([attended.mean(axis=0), attended[-1]]), (0, 2))

    def lstm(self, steps, suffix):
        w_x, w_h, b_x, b_h = (
            self.p[f"encoder.lstm.{part}_l0{suffix}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h = cell = np.zeros(w_h.shape[1])
        states = []
        for row in steps:
            i, f, g, o = np.split(w_x @ row + b_x + w_h @ h + b_h, 4)
            cell = expit(f) * cell + expit(i) * np.tanh(g)
            h = expit(o) * np.tanh(cell)
            states.append(h)
        return states

    def smooth(self, last, on, edges):
        """4.4: the prior graph, with or without loops; without the prior, loops alone."""
        graph = edges.copy()
        if self.c.gcn_loops or not self.c.use_prior:
            for i in on:
                graph[i, i] += 1
        degree = {i: sum(graph[i, j] for j in on) for i in on}
        if not self.c.gcn_loops and self.c.use_prior:
            degree = {i: max(d, 1) for i, d in degree.items()}
        start = {i: self.linear("encoder.spatial_in", last[i]) for i in on}
        h = start
        for layer in range(self.c.gcn_layers):
            gathered = {i: sum(graph[i, j] / math.sqrt(degree[i] * degree[j]) * h[j] for j in on) for i in on}
            h = {i: relu(self.linear(f"encoder.gcn.{layer}", gathered[i])) for i in on}
        out = np.zeros((len(last), len(start[on[0]])))
        for i in on:
            out[i] = h[i] + 0.5 * start[i]
        return out

    # --- module 2 ----------------------------------------------------------------------------------------------------
    def psi(self, stress):
        """5.2."""
        if self.c.psi_rule == "rank":
            return np.mean(stress)
        beta = self.p["graph.stress.beta"]
        if self.c.psi_rule == "free":
            return expit(sum(beta[k] * stress[k] for k in range(4)))
        return expit(-2 + sum(math.log1p(math.exp(beta[k])) * stress[k] for k in range(4)))

    def source_weights(self, psi):
        """5.4, order (temp, ctx, prior)."""
        if self.c.sources == "temporal":
            return np.array([1.0, 0.0, 0.0])
        w = self.p["graph.sources.w"]
        w = softmax(expit(w)) if self.c.source_w == "sigmoid" else softmax(w + self.p["graph.sources.v"] * psi)
        return w if self.c.use_prior else w * [1, 1, 0]

    def similarity(self, z, context, edges, source, on):
        """5.3-5.4: three cosines, the refinement by the edge network; the diagonal is 0."""
        out = np.zeros_like(edges)
        seen = {}
        for i in on:
            for j in on:
                hidden = self.linear("graph.edge.first", np.concatenate([z[i], z[j], context[i], context[j]]))
                seen[i, j] = self.linear("graph.edge.second", relu(hidden))
        for i in on:
            for j in on:
                if i != j and self.c.sources == "temporal":
                    out[i, j] = cosine(z[i], z[j])
                elif i != j:
                    mix = source[0] * cosine(z[i], z[j]) + source[1] * cosine(context[i], context[j])
                    mix += source[2] * edges[i, j]
                    edge = cosine(seen[i, j], seen[j, i])
                    out[i, j] = mix * expit(edge) + 0.1 * edge + 0.05 * edges[i, j]
        return out

    def kth_largest(self, similarity, i, on):
        """5.5: the k-th largest off-diagonal value of row i, the smallest if there are fewer."""
        others = sorted((similarity[i, j] for j in on if j != i), reverse=True)
        return others[min(self.c.top_k, len(others)) - 1] if others else 0.0

    def learned(self, similarity, kappa, support, on):
        """5.5."""
        masked, out = np.zeros_like(similarity), np.zeros_like(similarity)
        for i in on:
            for j in on:
                value = similarity[i, j] * expit(5 * (similarity[i, j] - kappa[i]))
                if self.c.topk_rule == "hard":
                    value = max(value, 0) * support[i, j]
                masked[i, j] = value
        both = (masked + masked.T) / 2
        for i in on:
            row = both[i, on]
            out[i, on] = softmax(row) if self.c.topk_rule == "soft" else row / (row.sum() + EPS)
        return out

    def refine(self, z, fused, on):
        """5.6: attention along the fused graph."""
        source, target = self.p["graph.gat.a_s"], self.p["graph.gat.a_d"]
        heads, size = source.shape
        u = {i: (self.p["graph.gat.map.weight"] @ z[i]).reshape(heads, size) for i in on}
        out = np.zeros((len(z), heads * size))
        for i in on:
            own = max(fused[i, j] for j in on)
            strength = [(own if own > 0 else 1.0) if j == i else fused[i, j] for j in on]
            merged = []
            for h in range(heads):
                raw = [source[h] @ u[i][h] + target[h] @ u[j][h] for j in on]
                leaky = [r if r > 0 else 0.2 * r for r in raw]
                w = softmax([r + math.log(a + 1e-6) for r, a in zip(leaky, strength, strict=True)])
                merged.append(sum(w[m] * u[j][h] for m, j in enumerate(on)))
            out[i] = self.linear("graph.gat.out", np.concatenate(merged))
        return out

    # --- modules 3 and 4 ---------------------------------------------------------------------------------------------
    def logits(self, z_final, around, psi, signal):
        """6.1-6.3."""
        scaled = (signal - signal.mean()) / math.sqrt(signal.var() + 1e-5)
        scaled = scaled * self.p["experts.category_norm.weight"] + self.p["experts.category_norm.bias"]
        entry = np.concatenate([z_final, around, [psi], scaled])
        return self.mlp("experts.gate.mlp", entry, (0, 2, 4)) + self.p["experts.gate.b_div"]

    def choose(self, w):
        """What Table 7 makes of the soft weights."""
        order = np.argsort(-w)
        if self.c.routing_rule == "uniform":
            return np.full(len(w), 1 / len(w))
        if self.c.routing_rule in ("top2", "hard"):
            kept = np.isin(range(len(w)), order[: 2 if self.c.routing_rule == "top2" else 1])
            return w * kept / (w * kept).sum()
        return w

    def guess(self, k, embedding, f, j):
        """Feature j of expert k's category from the others."""
        hidden = np.array([0 if m == j else v for m, v in enumerate(f)])
        latent = self.mlp(f"experts.expert.{k}.encode", np.concatenate([embedding, hidden]), (0, 2))
        return self.mlp(f"experts.expert.{k}.decode", np.concatenate([embedding, latent]), (0, 2))[j]

    def horizon_error(self, d, window, latent):
        """7.1: the last h rows rebuilt in the order of time."""
        w_x, w_h, b_x, b_h = (
            self.p[f"decoders.gru.{d}.{part}_l0"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h, horizon, total = np.zeros(w_h.shape[1]), HORIZONS[d], 0.0
        for target in window[-horizon:]:
            (r_x, u_x, n_x), (r_h, u_h, n_h) = np.split(w_x @ latent + b_x, 3), np.split(w_h @ h + b_h, 3)
            update = expit(u_x + u_h)
            h = (1 - update) * np.tanh(n_x + expit(r_x + r_h) * n_h) + update * h
            total += norm(target - self.linear(f"decoders.out.{d}", h))
        return total / horizon


# --- losses (SPEC 8) -------------------------------------------------------------------------------------------------
def losses(fields, active, config):
    """Of one chunk of consecutive sessions: rec, entropy, smooth and their total."""
    w, errors, horizons = fields["routing"], fields["expert_error"], fields["horizon_error"]
    rec, entropy, jumps = [], [], []
    for t in range(len(active)):
        for i in range(len(active[t])):
            if active[t, i]:
                own = w[t, i] * errors[t, i] if config.rec_rule == "routed" else errors[t, i]
                rec.append(sum(horizons[t, i]) + sum(own))
                entropy.append(-sum(v * math.log(max(v, EPS)) for v in w[t, i]))
                if t and active[t - 1, i]:
                    jumps.append(sum((w[t, i] - w[t - 1, i]) ** 2))
    out = {"rec": np.mean(rec), "entropy": np.mean(entropy), "smooth": np.mean(jumps) if jumps else 0.0}
    out["total"] = out["rec"] + config.div_sign * config.gamma1 * out["entropy"] + config.gamma2 * out["smooth"]
    return out
