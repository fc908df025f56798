/* From C: which blocks does a query keep, and what does it attend to? 64 tokens in blocks of 8; the last query is made
 * of key 21, which lies in block 2, and the value of a key is its number.
 *
 *     cc find_block.c -I REPOSITORY -L build/lib -lmobalab_kernels -o find_block
 */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/c_api/mobalab_kernels.h"

enum { TOKENS = 64, DIM = 16, BLOCK = 8, TOPK = 3, NEEDLE = 21 };

static float q[TOKENS * DIM], k[TOKENS * DIM], v[TOKENS * DIM], out[TOKENS * DIM], lse[TOKENS];
static int32_t selection[TOKENS * (TOPK - 1)];

static void must(MobalabStatus status, const char* message) {
    if (status != MOBALAB_OK) {
        fprintf(stderr, "%s\n", message);
        exit(1);
    }
}

int main(void) {
    char message[512] = "";
    const MobalabProblem problem = {.batch = 1,
                                    .seqlen_q = TOKENS,
                                    .seqlen_k = TOKENS,
                                    .heads_q = 1,
                                    .heads_k = 1,
                                    .head_dim = DIM,
                                    .block_size = BLOCK,
                                    .topk = TOPK,
                                    .dtype = MOBALAB_FP32,
                                    .centroids = MOBALAB_CENTROIDS_INPUT_DTYPE,
                                    .scorer = MOBALAB_SCORER_mean,
                                    .sub_blocks = 1};
    const MobalabExecution on_cpu = {.backend = MOBALAB_CPU};
    const int64_t contiguous = MOBALAB_CONTIGUOUS;
    const MobalabTensor tq = {q, contiguous, contiguous, contiguous}, tk = {k, contiguous, contiguous, contiguous},
                        tv = {v, contiguous, contiguous, contiguous}, to = {out, contiguous, contiguous, contiguous};

    uint32_t noise = 1;
    for (int i = 0; i < TOKENS * DIM; ++i) {
        noise = 1664525U * noise + 1013904223U;
        k[i] = (float)(noise >> 8) / (float)(1 << 24) - 0.5F;
        v[i] = (float)(i / DIM);
    }
    for (int e = 0; e < DIM; ++e) q[(TOKENS - 1) * DIM + e] = 30.0F * k[NEEDLE * DIM + e];

    must(mobalab_moba_forward(&problem, tq, tk, tv, to, lse, selection, &on_cpu, message, sizeof message), message);
    printf("the last query keeps its own block 7 and blocks %d and %d; it reads %.1f\n",
           (int)selection[(TOKENS - 1) * (TOPK - 1)], (int)selection[(TOKENS - 1) * (TOPK - 1) + 1],
           (double)out[(TOKENS - 1) * DIM]);
    return 0;
}
