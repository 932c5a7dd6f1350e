"""The builds of `step.cpp`: one for each instruction set, the best first. setup.py runs this file alone."""

FLAGS = ["-std=gnu++17", "-O3", "-Wall", "-Wextra", "-Wno-psabi"]
AVX512 = ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx512bf16", "fma"]
VARIANTS = {
    "avx512": [f"-m{name}" for name in AVX512],  # Intel since 2020 (servers), AMD since Zen 4
    "avx2": ["-mavx2", "-mfma"],
    "portable": [],  # whatever the compiler takes for granted; Arm has NEON there
}
X86 = ("avx512", "avx2")  # compiled on x86-64 only
