# Attention, window scores and selection. Nothing here needs more than the baseline to start: the two avx512 files hold
# only functions that attention_cpu.cc calls on processors that have the instructions, and the plain loops are compiled for
# three levels (cpu_clones.h) or choose at run time.
set(WINNOW_ATTENTION_SOURCES
    attention_avx512_bf16.cc attention_avx512_f32.cc attention_cpu.cc attention_portable.cc attention_ref.cc
    paged_attention_cpu.cc paged_attention_ref.cc
    select_tokens_cpu.cc select_tokens_ref.cc
    window_scores_cpu.cc window_scores_ref.cc)

set(winnow_vectorisable -fno-math-errno -fno-trapping-math)
# GCC 12 warns about its own undefined-value helpers (PR 105593).
set(winnow_avx512 -mavx2 -mfma -mavx512f -mavx512bw -mavx512dq -mavx512vl -Wno-uninitialized -Wno-maybe-uninitialized)
set_source_files_properties(
  attention_portable.cc select_tokens_cpu.cc window_scores_cpu.cc PROPERTIES COMPILE_OPTIONS "${winnow_vectorisable}")
set_source_files_properties(attention_avx512_f32.cc PROPERTIES COMPILE_OPTIONS "${winnow_avx512}")
set_source_files_properties(attention_avx512_bf16.cc PROPERTIES COMPILE_OPTIONS "${winnow_avx512};-mavx512bf16")
