;; Decoupled AdamW: Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (ICLR 2019),
;; Algorithm 2, with the schedule's multiplier on both terms. Per element, each line rounded to
;; float32 operation by operation, from the innermost brackets outwards:
;;   g  = gradient * gradientScale
;;   m  = flush(beta1 * m + oneMinusBeta1 * g)
;;   v  = flush(beta2 * v + oneMinusBeta2 * (g * g))
;;   u  = (m / correction1) / (sqrt(v / correction2) + epsilon) + weightDecay * parameter
;;   parameter = parameter - learningRate * u
;; The moments are flushed because those of an unused row would otherwise decay into denormals, stay
;; there (0.9 times the smallest rounds back to it) and cost a hundred times an ordinary element.

;; All four operands are `bytes` long (a multiple of 16).
(func (export "adamw")
  (param $parameter i32) (param $gradient i32) (param $m i32) (param $v i32) (param $bytes i32)
  (param $gradientScale f32) (param $beta1 f32) (param $oneMinusBeta1 f32)
  (param $beta2 f32) (param $oneMinusBeta2 f32) (param $correction1 f32) (param $correction2 f32)
  (param $epsilon f32) (param $weightDecay f32) (param $learningRate f32)
  (local $end i32) (local $x v128) (local $g v128) (local $m1 v128) (local $v1 v128)
  (local $beta1x4 v128) (local $beta2x4 v128)
  (local.set $beta1x4 (f32x4.splat (local.get $beta1)))
  (local.set $beta2x4 (f32x4.splat (local.get $beta2)))
  (local.set $end (i32.add (local.get $parameter) (local.get $bytes)))
  (loop $next
    (if (i32.lt_u (local.get $parameter) (local.get $end))
      (then
        (local.set $g
          (f32x4.mul (v128.load (local.get $gradient)) (f32x4.splat (local.get $gradientScale))))

        (local.set $m1
          (f32x4.add
            (f32x4.mul (local.get $beta1x4) (v128.load (local.get $m)))
            (f32x4.mul (f32x4.splat (local.get $oneMinusBeta1)) (local.get $g))))
        (local.set $m1
          (v128.andnot (local.get $m1)
            (i32x4.lt_s
              (v128.and (local.get $m1) (v128.const i32x4 0x7fffffff 0x7fffffff 0x7fffffff 0x7fffffff))
              (v128.const i32x4 0x00800000 0x00800000 0x00800000 0x00800000))))
        (v128.store (local.get $m) (local.get $m1))

        (local.set $v1
          (f32x4.add
            (f32x4.mul (local.get $beta2x4) (v128.load (local.get $v)))
            (f32x4.mul (f32x4.splat (local.get $oneMinusBeta2)) (f32x4.mul (local.get $g) (local.get $g)))))
        (local.set $v1
          (v128.andnot (local.get $v1)
            (i32x4.lt_s
              (v128.and (local.get $v1) (v128.const i32x4 0x7fffffff 0x7fffffff 0x7fffffff 0x7fffffff))
              (v128.const i32x4 0x00800000 0x00800000 0x00800000 0x00800000))))
        (v128.store (local.get $v) (local.get $v1))

        (local.set $x (v128.load (local.get $parameter)))
        (v128.store (local.get $parameter)
          (f32x4.sub (local.get $x)
            (f32x4.mul (f32x4.splat (local.get $learningRate))
              (f32x4.add
                (f32x4.div
                  (f32x4.div (local.get $m1) (f32x4.splat (local.get $correction1)))
                  (f32x4.add
                    (f32x4.sqrt (f32x4.div (local.get $v1) (f32x4.splat (local.get $correction2))))
                    (f32x4.splat (local.get $epsilon))))
                (f32x4.mul (f32x4.splat (local.get $weightDecay)) (local.get $x))))))

        (local.set $parameter (i32.add (local.get $parameter) (i32.const 16)))
        (local.set $gradient (i32.add (local.get $gradient) (i32.const 16)))
        (local.set $m (i32.add (local.get $m) (i32.const 16)))
        (local.set $v (i32.add (local.get $v) (i32.const 16)))
        (br $next)))))
