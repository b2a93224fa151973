"""What subnormal numbers cost on this CPU: single instructions, and the loop of the block kernel.

TFLite's kernel for blocks of 1x4 is, on x86, one `mulps` and one `addps` per block in a chain
(`NeonSparseMatrixBatchVectorMultiplyAccumulate1x4` of LiteRT 2.3.0, by disassembly). Where the
two "flushed" columns are fast and the two before them are not, the arithmetic with subnormal
numbers is what costs, and neither memory nor the kernel. Needs a C compiler and x86-64:

    python benchmarks/subnormals.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pytest_sparsity.machine import this_machine

SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <xmmintrin.h>

enum { CALLS = 1 << 21, BLOCKS = 1 << 14, TRIES = 25 };
static float weights[4 * BLOCKS], inputs[4 * BLOCKS];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e9 * t.tv_sec + t.tv_nsec;
}

/* Independent, so that what is timed is how many of them start per second. */
#define ONE(ins) "movaps %1, %0; " ins " %2, %0;"
#define TIMED(name, ins)                                                          \
    static double name(float a, float b) {                                        \
        __m128 x = _mm_set1_ps(a), y = _mm_set1_ps(b), t;                         \
        double start = now();                                                     \
        for (long i = 0; i < CALLS / 4; i++)                                      \
            asm volatile(ONE(ins) ONE(ins) ONE(ins) ONE(ins)                      \
                         : "=&x"(t) : "x"(x), "x"(y));                            \
        return (now() - start) / CALLS;                                           \
    }
TIMED(mulps, "mulps")
TIMED(addps, "addps")

static double block(float a, float b) {
    for (long i = 0; i < 4 * BLOCKS; i++) { weights[i] = a; inputs[i] = b; }
    double start = now();
    __m128 sum = _mm_setzero_ps();
    for (long i = 0; i < 4 * BLOCKS; i += 4) {
        __m128 product = _mm_mul_ps(_mm_load_ps(weights + i), _mm_load_ps(inputs + i));
        asm volatile("addps %1, %0" : "+x"(sum) : "x"(product));
    }
    return (now() - start) / BLOCKS;
}

static double best(double (*timed)(float, float), float a, float b, int flush) {
    double least = 1e30;
    unsigned before = _mm_getcsr();
    _mm_setcsr(flush ? before | 0x8040 : before);   /* FTZ and DAZ */
    for (int i = 0; i < TRIES; i++) {
        double ns = timed(a, b);
        least = ns < least ? ns : least;
    }
    _mm_setcsr(before);
    return least;
}

int main(void) {
    static const struct { const char *what; double (*timed)(float, float); float a, b; } rows[] = {
        {"mulps: subnormal by normal, result subnormal", mulps, 1e-40f, 0.5f},
        {"mulps: subnormal by large, result normal", mulps, 1e-40f, 1e20f},
        {"mulps: normal by normal, result subnormal", mulps, 1e-20f, 1e-20f},
        {"mulps: subnormal by zero", mulps, 1e-40f, 0.0f},
        {"addps: subnormal and normal", addps, 1e-40f, 1.0f},
        {"addps: subnormal and subnormal", addps, 1e-40f, 1e-40f},
        {"block loop: subnormal weights, normal inputs", block, 1e-40f, 0.5f},
    };
    printf("%-46s %9s %9s %9s %9s\n", "ns each", "normal", "subnormal", "flushed", "ratio");
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        double normal = best(rows[i].timed, 1.5f, 0.5f, 0);
        double these = best(rows[i].timed, rows[i].a, rows[i].b, 0);
        double flushed = best(rows[i].timed, rows[i].a, rows[i].b, 1);
        printf("%-46s %9.3f %9.3f %9.3f %9.3f\n", rows[i].what, normal, these, flushed,
               normal / these);
    }
    return 0;
}
"""


def main() -> None:
    compiler = shutil.which("cc")
    machine = this_machine()
    if compiler is None or machine.arch != "x86_64":
        sys.exit("needs a C compiler (sudo apt-get install gcc libc6-dev) and an x86-64 CPU")
    print(f"{machine.brand} ({machine.isa}), {machine.model}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "subnormals.c").write_text(SOURCE, "ascii")
        command = [compiler, "-O2", "-o", "subnormals", "subnormals.c"]
        subprocess.run(command, cwd=folder, check=True)
        subprocess.run([str(Path(folder, "subnormals"))], check=True)


if __name__ == "__main__":
    main()
