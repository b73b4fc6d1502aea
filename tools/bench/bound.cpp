// A hand-written MLS-MPM program for CPUs: the bound that the engine is measured against.
//
// Particles lie in blocks of 16, every number of a block in one vector. Law, weights and updates work on whole blocks;
// transfers work particle by particle on rows of three z-neighbours times four numbers. G2P of a substep and P2G of
// the next are one loop; so are the adjoints. Each thread scatters its run of the cell-sorted particles to a grid of
// its own, and the grids are summed. Grids cover the box around the particles, renewed every CHUNK substeps.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <sched.h>
#include <thread>
#include <vector>

typedef float V __attribute__((vector_size(64)));
typedef float U __attribute__((vector_size(64), aligned(4)));
typedef float Q __attribute__((vector_size(16)));
typedef int I __attribute__((vector_size(64)));

static const int CHUNK = 24;

struct Work {
    int blocks, threads, substeps, water;
    float dx, dt, per_density, gravity[3], mu, lam;
};

struct Box {
    int low[3], n[3];
    size_t nodes() const { return (size_t)n[0] * n[1] * n[2]; }
};

struct Matrix {
    V e[3][3];
};
#define EACH(i) for (int i = 0; i < 3; ++i)
#define ALWAYS static inline __attribute__((always_inline))

ALWAYS Matrix times(const Matrix& a, const Matrix& b) {
    Matrix c;
    EACH(i) EACH(j) c.e[i][j] = a.e[i][0] * b.e[0][j] + a.e[i][1] * b.e[1][j] + a.e[i][2] * b.e[2][j];
    return c;
}
ALWAYS Matrix flipped(const Matrix& a) {
    Matrix c;
    EACH(i) EACH(j) c.e[i][j] = a.e[j][i];
    return c;
}
ALWAYS Matrix cofactor(const Matrix& a) {
    Matrix c;
    EACH(i) EACH(j) {
        const int p = (i + 1) % 3, q = (i + 2) % 3, r = (j + 1) % 3, s = (j + 2) % 3;
        c.e[i][j] = a.e[p][r] * a.e[q][s] - a.e[p][s] * a.e[q][r];
    }
    return c;
}
ALWAYS V along_row(const Matrix& a, const Matrix& cof) {
    return a.e[0][0] * cof.e[0][0] + a.e[0][1] * cof.e[0][1] + a.e[0][2] * cof.e[0][2];
}
ALWAYS V fill(float f) { return V{} + f; }

ALWAYS Matrix polar(const Matrix& F) {
    Matrix R = F;
    for (int step = 0; step < 12; ++step) {
        const Matrix c = cofactor(R);
        const V half = 0.5f / along_row(R, c);
        V moved = {};
        EACH(i) EACH(j) {
            const V next = 0.5f * R.e[i][j] + half * c.e[i][j], by = next - R.e[i][j];
            moved += by * by;
            R.e[i][j] = next;
        }
        float most = 0;
        for (int l = 0; l < 16; ++l) most = moved[l] > most ? moved[l] : most;
        if (!(most > 1e-8f)) break;  // the error is squared in each step
    }
    return R;
}

// Kirchhoff stress, and for its cotangent G those of F, mu and lam.
ALWAYS Matrix stress(const Matrix& F, float mu, float lam) {
    const Matrix R = polar(F);
    Matrix D;
    EACH(i) EACH(j) D.e[i][j] = (2 * mu) * (F.e[i][j] - R.e[i][j]);
    Matrix tau = times(D, flipped(F));
    const V J = along_row(F, cofactor(F));
    EACH(i) tau.e[i][i] += lam * J * (J - 1);
    return tau;
}
ALWAYS Matrix pull_stress(const Matrix& F, const Matrix& G, float mu, float lam, V& by_mu, V& by_lam) {
    const Matrix R = polar(F), cof = cofactor(F);
    const V J = along_row(F, cof), trace = G.e[0][0] + G.e[1][1] + G.e[2][2];
    Matrix D;
    EACH(i) EACH(j) D.e[i][j] = F.e[i][j] - R.e[i][j];
    const Matrix GF = times(G, F), GtD = times(flipped(G), D);
    EACH(i) EACH(j) by_mu += 2 * D.e[i][j] * GF.e[i][j];
    by_lam += J * (J - 1) * trace;
    Matrix S = times(flipped(R), F), A;
    const Matrix M = times(flipped(R), GF);  // the cotangent of R is -2 mu G F
    const V s = S.e[0][0] + S.e[1][1] + S.e[2][2];
    EACH(i) EACH(j) A.e[i][j] = -0.5f * (S.e[i][j] + S.e[j][i]);
    EACH(i) A.e[i][i] += s;
    const Matrix B = cofactor(A);
    const V per = (-2 * mu) / along_row(A, B);
    const V a0 = M.e[2][1] - M.e[1][2], a1 = M.e[0][2] - M.e[2][0], a2 = M.e[1][0] - M.e[0][1];
    V w[3];
    EACH(i) w[i] = per * (B.e[i][0] * a0 + B.e[i][1] * a1 + B.e[i][2] * a2);
    const V zero = {};
    const Matrix W = {{{zero, -w[2], w[1]}, {w[2], zero, -w[0]}, {-w[1], w[0], zero}}};
    const Matrix RW = times(R, W);
    Matrix out;
    EACH(i) EACH(j)
        out.e[i][j] = (2 * mu) * (GF.e[i][j] + GtD.e[i][j]) + RW.e[i][j] + (lam * trace * (2 * J - 1)) * cof.e[i][j];
    return out;
}

// Numbers of a block: x 0-2, v 3-5, C 6-14, F 15-23 (water: J in 15).
ALWAYS int stride(const Work& k) { return k.water ? 16 : 24; }
ALWAYS Matrix matrix(const V* at) {
    Matrix m;
    EACH(i) EACH(j) m.e[i][j] = at[3 * i + j];
    return m;
}
ALWAYS Matrix step_of(const V* C, float dt) {  // I + dt C
    Matrix f;
    EACH(i) EACH(j) f.e[i][j] = dt * C[3 * i + j];
    EACH(i) f.e[i][i] += 1;
    return f;
}

struct Stencil {
    int node[16];
    float u[3][16], w[3][3][16], d[3][3][16], s[3][3][16];
};
ALWAYS void stencil(const V* x, const Box& box, float dx, Stencil& out) {
    const float per = 1 / dx;
    I node = {};
    EACH(a) {
        const V at = x[a] * per;
        const I first = __builtin_convertvector(at - 0.5f, I);
        const V u = at - __builtin_convertvector(first, V);
        node = node * box.n[a] + (first - box.low[a]);
        *(V*)out.w[a][0] = 0.5f * (1.5f - u) * (1.5f - u);
        *(V*)out.w[a][1] = 0.75f - (u - 1) * (u - 1);
        *(V*)out.w[a][2] = 0.5f * (u - 0.5f) * (u - 0.5f);
        for (int i = 0; i < 3; ++i) *(V*)out.d[a][i] = ((float)i - u) * dx;
        *(V*)out.s[a][0] = (u - 1.5f) * per;
        *(V*)out.s[a][1] = (2 - 2 * u) * per;
        *(V*)out.s[a][2] = (u - 0.5f) * per;
    }
    *(I*)out.node = node;
}
ALWAYS V along(float a, float b, float c) { return V{a, a, a, a, b, b, b, b, c, c, c, c, 0, 0, 0, 0}; }
ALWAYS V across(const float* q) {
    const Q v = *(const Q*)q;
    return __builtin_shufflevector(v, v, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
}
ALWAYS Q fold(V v) {
    return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7) +
           __builtin_shufflevector(v, v, 8, 9, 10, 11);
}
struct Affine {  // per particle: q and m, and the three columns of K
    alignas(64) float to[4][16][4];
};
ALWAYS void affine(const V* q, V m, const Matrix& K, Affine& out) {
    for (int l = 0; l < 16; ++l) {
        EACH(i) out.to[0][l][i] = q[i][l];
        out.to[0][l][3] = m[l];
        EACH(a) {
            EACH(i) out.to[1 + a][l][i] = K.e[i][a][l];
            out.to[1 + a][l][3] = 0;
        }
    }
}
ALWAYS void scatter(const Stencil& t, const Affine& k, const Box& box, float* grid) {
    const size_t up = 4 * (size_t)box.n[2], across_a = up * box.n[1];
    for (int l = 0; l < 16; ++l) {
        const V w = along(t.w[2][0][l], t.w[2][1][l], t.w[2][2][l]), d = along(t.d[2][0][l], t.d[2][1][l], t.d[2][2][l]);
        const V k0 = w * (across(k.to[0][l]) + d * across(k.to[3][l]));
        const V ka = w * across(k.to[1][l]), kb = w * across(k.to[2][l]);
        float* at = grid + 4 * (size_t)t.node[l];
        EACH(i) {
            const V row = k0 + ka * t.d[0][i][l];
            EACH(j) *(U*)(at + i * across_a + j * up) += (row + kb * t.d[1][j][l]) * (t.w[0][i][l] * t.w[1][j][l]);
        }
    }
}
// Row 0: sum of w g; rows 1 + e: of w g d_e; row 4, if wanted: the slope of sum w (g . (q + K d) + g_3 m) at fixed d.
template <bool MOMENTS, bool RISE>
ALWAYS void gather(const Stencil& t, const Affine* k, const Box& box, const float* grid, V out[5][3]) {
    const size_t up = 4 * (size_t)box.n[2], across_a = up * box.n[1];
    for (int l = 0; l < 16; ++l) {
        const V w = along(t.w[2][0][l], t.w[2][1][l], t.w[2][2][l]), d = along(t.d[2][0][l], t.d[2][1][l], t.d[2][2][l]);
        V k0 = {}, ka = {}, kb = {}, m0 = {}, ma = {}, mb = {}, ha = {}, hb = {}, hr = {};
        if (RISE) {
            k0 = across(k->to[0][l]) + d * across(k->to[3][l]);
            ka = across(k->to[1][l]);
            kb = across(k->to[2][l]);
        }
        const float* at = grid + 4 * (size_t)t.node[l];
        EACH(i) {
            V s = {}, u = {}, e = {}, f = {};
            EACH(j) {
                const V g = *(const U*)(at + i * across_a + j * up);
                s += g * t.w[1][j][l];
                u += g * (t.w[1][j][l] * t.d[1][j][l]);
                if (RISE) {
                    e += g * t.s[1][j][l];
                    f += g * (t.s[1][j][l] * t.d[1][j][l]);
                }
            }
            if (MOMENTS) {
                m0 += s * t.w[0][i][l];
                ma += s * (t.w[0][i][l] * t.d[0][i][l]);
                mb += u * t.w[0][i][l];
            }
            if (RISE) {
                const V ki = k0 + ka * t.d[0][i][l], part = s * ki + u * kb;
                ha += part * t.s[0][i][l];
                hr += part * t.w[0][i][l];
                hb += (e * ki + f * kb) * t.w[0][i][l];
            }
        }
        if (MOMENTS) {
            m0 *= w;
            const Q f0 = fold(m0), fa = fold(ma * w), fb = fold(mb * w), fr = fold(m0 * d);
            EACH(c) {
                ((float*)&out[0][c])[l] = f0[c];
                ((float*)&out[1][c])[l] = fa[c];
                ((float*)&out[2][c])[l] = fb[c];
                ((float*)&out[3][c])[l] = fr[c];
            }
        }
        if (RISE) {
            const Q a = fold(ha * w), b = fold(hb * w), r = fold(hr * along(t.s[2][0][l], t.s[2][1][l], t.s[2][2][l]));
            ((float*)&out[4][0])[l] = a[0] + a[1] + a[2] + a[3];
            ((float*)&out[4][1])[l] = b[0] + b[1] + b[2] + b[3];
            ((float*)&out[4][2])[l] = r[0] + r[1] + r[2] + r[3];
        }
    }
}
ALWAYS Matrix law(const Work& k, const V* p) {
    if (!k.water) return stress(matrix(p + 15), k.mu, k.lam);
    Matrix tau = {};
    EACH(i) tau.e[i][i] = k.lam * p[15] * (p[15] - 1);
    return tau;
}
ALWAYS Matrix carried(const Work& k, const V* p, V m) {  // K of P2G: m (C - 4 dt / (rho0 dx^2) tau)
    const V scale = (-4 * k.dt * k.per_density / (k.dx * k.dx)) * m;
    Matrix K = law(k, p);
    EACH(i) EACH(j) K.e[i][j] = m * p[6 + 3 * i + j] + scale * K.e[i][j];
    return K;
}
static void p2g(const Work& k, const V* p, V m, const Box& box, float* grid) {
    Stencil t;
    Affine a;
    stencil(p, box, k.dx, t);
    const V q[3] = {m * p[3], m * p[4], m * p[5]};
    affine(q, m, carried(k, p, m), a);
    scatter(t, a, box, grid);
}
static void g2p(const Work& k, const V* p, const Box& box, const float* grid, V* to) {
    Stencil t;
    V g[5][3];
    stencil(p, box, k.dx, t);
    gather<true, false>(t, nullptr, box, grid, g);
    EACH(i) {
        to[i] = p[i] + k.dt * g[0][i];
        to[3 + i] = g[0][i];
        EACH(j) to[6 + 3 * i + j] = (4 / (k.dx * k.dx)) * g[1 + j][i];
    }
    const Matrix f = step_of(to + 6, k.dt);
    if (k.water)
        to[15] = along_row(f, cofactor(f)) * p[15];
    else {
        const Matrix F = times(f, matrix(p + 15));
        EACH(i) EACH(j) to[15 + 3 * i + j] = F.e[i][j];
    }
}
// Cotangents g of a block's numbers after a substep: K and q of the nodes' cotangent, and the new g[0..2] and g[15..].
static void pull_g2p(const Work& k, const V* p, const V* after, V* g, const Box& box, const float* velocity, float* grid) {
    Stencil t;
    Affine a;
    V h[5][3], q[3];
    Matrix K, f = step_of(after + 6, k.dt);
    stencil(p, box, k.dx, t);
    EACH(i) q[i] = g[3 + i] + k.dt * g[i];
    Matrix by_C = matrix(g + 6);
    if (k.water) {
        const Matrix c = cofactor(f);
        const V scale = k.dt * g[15] * p[15];
        EACH(i) EACH(j) by_C.e[i][j] += scale * c.e[i][j];
        g[15] = g[15] * along_row(f, c);
    } else {
        const Matrix by_F = matrix(g + 15), part = times(by_F, flipped(matrix(p + 15))), back = times(flipped(f), by_F);
        EACH(i) EACH(j) by_C.e[i][j] += k.dt * part.e[i][j];
        EACH(i) EACH(j) g[15 + 3 * i + j] = back.e[i][j];
    }
    EACH(i) EACH(j) K.e[i][j] = (4 / (k.dx * k.dx)) * by_C.e[i][j];
    affine(q, V{}, K, a);
    scatter(t, a, box, grid);
    gather<false, true>(t, &a, box, velocity, h);
    // Distances d shrink as x grows: - K^T sum w g, the sum being the velocity after the substep.
    EACH(i) g[i] += h[4][i] - (K.e[0][i] * after[3] + K.e[1][i] * after[4] + K.e[2][i] * after[5]);
}
static void pull_p2g(const Work& k, const V* p, V m, V* g, const Box& box, const float* grid, V by[2]) {
    Stencil t;
    Affine a;
    V h[5][3];
    stencil(p, box, k.dx, t);
    const V q[3] = {m * p[3], m * p[4], m * p[5]};
    const Matrix K = carried(k, p, m);
    affine(q, m, K, a);
    gather<true, true>(t, &a, box, grid, h);
    Matrix G;
    const V scale = (-4 * k.dt * k.per_density / (k.dx * k.dx)) * m;
    EACH(i) {
        g[i] += h[4][i] - (K.e[0][i] * h[0][0] + K.e[1][i] * h[0][1] + K.e[2][i] * h[0][2]);
        g[3 + i] = m * h[0][i];
        EACH(j) g[6 + 3 * i + j] = m * h[1 + j][i];
        EACH(j) G.e[i][j] = scale * h[1 + j][i];
    }
    if (k.water) {
        const V J = p[15], trace = G.e[0][0] + G.e[1][1] + G.e[2][2];
        g[15] += k.lam * (2 * J - 1) * trace;
        by[1] += J * (J - 1) * trace;
    } else {
        const Matrix F = pull_stress(matrix(p + 15), G, k.mu, k.lam, by[0], by[1]);
        EACH(i) EACH(j) g[15 + 3 * i + j] += F.e[i][j];
    }
}

struct Floats {  // memory on cache lines
    float* at = nullptr;
    size_t size = 0;
    void need(size_t n) {
        if (n <= size) return;
        free(at);
        size = n + n / 4;
        at = (float*)aligned_alloc(64, (size * 4 + 63) / 64 * 64);
    }
    ~Floats() { free(at); }
};

struct Team {
    int threads;
    std::atomic<int> arrived{0};
    void wait() {
        const int target = (arrived.fetch_add(1) / threads + 1) * threads;
        for (int spins = 0; arrived.load(std::memory_order_acquire) < target; ++spins)
            if (spins > 4000) sched_yield();
    }
};

struct Chunk {
    Box box;
    int reach[64][2];  // planes of the box that a thread's particles touch
};
struct Memory {  // kept from call to call: fresh memory would cost a page fault each time
    Floats own[64];
    Floats velocity, states, grids;
};
static Memory memory;

// state and grads: blocks of `stride` vectors; mass: one vector per block. Without `grads` nothing is kept.
extern "C" int roll(const Work* work, float* state, const float* mass, float* grads, float* by) {
    const Work& k = *work;
    const int T = k.threads, S = stride(k), N = k.substeps;
    const bool keep = grads != nullptr;
    const size_t size = (size_t)k.blocks * S * 16;
    const V* m = (const V*)mass;
    if (keep) {
        memory.states.need(size * (N + 1));
        memcpy(memory.states.at, state, size * 4);
    }
    auto at = [&](int step) { return (V*)(keep ? memory.states.at + size * step : state); };
    std::vector<Chunk> chunks(N / CHUNK + 1);
    std::vector<size_t> place(N + 1);
    size_t used = 0;
    int lows[64][3], highs[64][3];
    Team team{T};
    V total[64][2] = {};
    bool failed = false;

    auto run = [&](int thread) {
        const int first = (int)((int64_t)k.blocks * thread / T), last = (int)((int64_t)k.blocks * (thread + 1) / T);
        float*& mine = memory.own[thread].at;
        auto clear = [&](const Chunk& c) {
            const size_t plane = 4 * (size_t)c.box.n[1] * c.box.n[2];
            memset(mine + plane * c.reach[thread][0], 0, 4 * (plane * (c.reach[thread][1] - c.reach[thread][0]) + 16));
        };
        // Each thread's planes of the box: what all threads scattered, turned into `out` by `node`.
        auto over_nodes = [&](const Chunk& c, auto node) {
            const size_t plane = (size_t)c.box.n[1] * c.box.n[2];
            for (int a = c.box.n[0] * thread / T; a < c.box.n[0] * (thread + 1) / T; ++a)
                for (size_t i = plane * a; i < plane * (a + 1); ++i) {
                    Q all = {};
                    for (int t = 0; t < T; ++t)
                        if (a >= c.reach[t][0] && a < c.reach[t][1]) all += *(const Q*)(memory.own[t].at + 4 * i);
                    node(i, all);
                }
        };
        for (int step = 0; step <= N; ++step) {
            const bool fresh = step % CHUNK == 0, end = step == N;
            const V* before = step ? at(step - 1) : nullptr;
            V* now = at(step);
            const float* old = keep && step ? memory.grids.at + place[step - 1] : memory.velocity.at;
            if (fresh || end) {
                if (step)
                    for (int b = first; b < last; ++b)
                        g2p(k, before + (size_t)b * S, chunks[(step - 1) / CHUNK].box, old, now + (size_t)b * S);
                if (end) break;
                EACH(a) {
                    V low = fill(1e9f), high = fill(-1e9f);
                    for (int b = first; b < last; ++b) {
                        const V x = now[(size_t)b * S + a];
                        low = x < low ? x : low;
                        high = x > high ? x : high;
                    }
                    float l = 1e9f, h = -1e9f;
                    for (int i = 0; i < 16; ++i) l = low[i] < l ? low[i] : l, h = high[i] > h ? high[i] : h;
                    lows[thread][a] = (int)(l / k.dx - 0.5f) - 1;
                    highs[thread][a] = (int)(h / k.dx - 0.5f) + 5;
                }
                team.wait();
                Chunk& c = chunks[step / CHUNK];
                if (thread == 0) {
                    EACH(a) {
                        int low = lows[0][a], high = highs[0][a];
                        for (int t = 1; t < T; ++t) {
                            low = lows[t][a] < low ? lows[t][a] : low;
                            high = highs[t][a] > high ? highs[t][a] : high;
                        }
                        c.box.low[a] = low;
                        c.box.n[a] = high - low;
                    }
                    for (int t = 0; t < T; ++t) {
                        c.reach[t][0] = lows[t][0] - c.box.low[0];
                        c.reach[t][1] = highs[t][0] - c.box.low[0];
                        memory.own[t].need(4 * c.box.nodes() + 16);
                    }
                    const size_t each = 4 * c.box.nodes() + 16;
                    if (keep) {
                        if (step == 0) memory.grids.need((size_t)(each * 1.3) * N);
                        const int count = N - step < CHUNK ? N - step : CHUNK;
                        for (int i = 0; i < count; ++i, used += each) place[step + i] = used;
                        failed = used > memory.grids.size;
                    } else
                        memory.velocity.need(each);
                }
                team.wait();
                if (failed) return;
                clear(c);
                for (int b = first; b < last; ++b) p2g(k, now + (size_t)b * S, m[b], c.box, mine);
            } else {
                const Chunk& c = chunks[step / CHUNK];
                clear(c);
                for (int b = first; b < last; ++b) {
                    g2p(k, before + (size_t)b * S, c.box, old, now + (size_t)b * S);
                    p2g(k, now + (size_t)b * S, m[b], c.box, mine);
                }
            }
            team.wait();
            float* out = keep ? memory.grids.at + place[step] : memory.velocity.at;
            const Q pull = {k.dt * k.gravity[0], k.dt * k.gravity[1], k.dt * k.gravity[2], 0};
            over_nodes(chunks[step / CHUNK], [&](size_t i, Q all) {
                const float mass_here = all[3];
                Q v = {};
                if (mass_here > 0) v = all / mass_here + pull, v[3] = mass_here;
                *(Q*)(out + 4 * i) = v;
            });
            team.wait();
        }
        if (!keep) return;
        team.wait();
        V sums[2] = {};
        for (int step = N - 1; step >= -1; --step) {
            const bool edge = step == N - 1 || (step + 1) % CHUNK == 0;
            // The nodes' cotangents of substep step + 1 lie in `velocity`; those of `step` are scattered.
            auto down = [&](int b) {
                pull_p2g(k, at(step + 1) + (size_t)b * S, m[b], (V*)grads + (size_t)b * S, chunks[(step + 1) / CHUNK].box,
                         memory.velocity.at, sums);
            };
            auto up = [&](int b) {
                pull_g2p(k, at(step) + (size_t)b * S, at(step + 1) + (size_t)b * S, (V*)grads + (size_t)b * S,
                         chunks[step / CHUNK].box, memory.grids.at + place[step], mine);
            };
            if (step < N - 1 && (edge || step < 0))
                for (int b = first; b < last; ++b) down(b);
            if (step < 0) break;
            const Chunk& c = chunks[step / CHUNK];
            if (edge) {
                team.wait();
                if (thread == 0) memory.velocity.need(4 * c.box.nodes() + 16);
                team.wait();
                clear(c);
                for (int b = first; b < last; ++b) up(b);
            } else {
                clear(c);
                for (int b = first; b < last; ++b) down(b), up(b);
            }
            team.wait();
            const float* kept = memory.grids.at + place[step];
            over_nodes(c, [&](size_t i, Q all) {
                const Q v = *(const Q*)(kept + 4 * i);
                Q out = {};
                if (v[3] > 0) {
                    EACH(a) out[a] = all[a] / v[3];
                    EACH(a) out[3] -= out[a] * (v[a] - k.dt * k.gravity[a]);
                }
                *(Q*)(memory.velocity.at + 4 * i) = out;
            });
            team.wait();
        }
        EACH(a) if (a < 2) total[thread][a] = sums[a];
    };
    std::vector<std::thread> others;
    for (int t = 1; t < T; ++t) others.emplace_back(run, t);
    run(0);
    for (auto& t : others) t.join();
    if (failed) return 1;
    if (keep) {
        memcpy(state, memory.states.at + size * N, size * 4);
        for (int i = 0; i < 2; ++i) {
            double s = 0;
            for (int t = 0; t < T; ++t)
                for (int l = 0; l < 16; ++l) s += total[t][i][l];
            by[i] = (float)s;
        }
    }
    return 0;
}
