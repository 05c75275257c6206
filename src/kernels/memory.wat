;; The staging memory of one thread's kernels: 18 operands of 64 KiB and a page for results, laid out by kernels.ts.
;;
;; infra/build-kernels.mjs joins the .wat files of this folder, in name order, into one module (the
;; text format reads a file of fields as a module). Conventions of all of them:
;; - lengths are rounded up by the caller to whole vectors; what lies beyond the data is computed
;;   and thrown away, or zeroed first where it would count (digest, sum of squares);
;; - float32 arithmetic is IEEE add, sub, mul, div, sqrt: no relaxed SIMD, no fused multiply-add;
;; - "flush" clears every element with an exponent of zero (|x| < 2^-126, and -0) to +0. It is
;;   spelled out where it is used: the engine does not inline calls between wasm functions.
(memory (export "memory") 19)
