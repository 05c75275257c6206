;; A bfloat16 is the upper half of a float32: packing drops the lower halves, which are zero in what was
;; rounded (sum.wat), and unpacking puts them back.

;; `bytes` of floats (a multiple of 32) at `at` become half as many bytes there.
(func (export "packBfloat16") (param $at i32) (param $bytes i32)
  (local $to i32) (local $end i32)
  (local.set $to (local.get $at))
  (local.set $end (i32.add (local.get $at) (local.get $bytes)))
  (loop $next
    (if (i32.lt_u (local.get $at) (local.get $end))
      (then
        (v128.store (local.get $to)
          (i8x16.shuffle 2 3 6 7 10 11 14 15 18 19 22 23 26 27 30 31
            (v128.load offset=0 (local.get $at)) (v128.load offset=16 (local.get $at))))
        (local.set $to (i32.add (local.get $to) (i32.const 16)))
        (local.set $at (i32.add (local.get $at) (i32.const 32)))
        (br $next)))))

;; `bytes` of halves (a multiple of 16) at `from` become twice as many bytes at `to`, which may reach into
;; them from below: a vector is read before its place is written, if `from` is `to` + `bytes` or further on.
(func (export "unpackBfloat16") (param $from i32) (param $to i32) (param $bytes i32)
  (local $end i32) (local $x v128)
  (local.set $end (i32.add (local.get $from) (local.get $bytes)))
  (loop $next
    (if (i32.lt_u (local.get $from) (local.get $end))
      (then
        (local.set $x (v128.load (local.get $from)))
        (v128.store offset=0 (local.get $to)
          (i32x4.shl (i32x4.extend_low_i16x8_u (local.get $x)) (i32.const 16)))
        (v128.store offset=16 (local.get $to)
          (i32x4.shl (i32x4.extend_high_i16x8_u (local.get $x)) (i32.const 16)))
        (local.set $from (i32.add (local.get $from) (i32.const 16)))
        (local.set $to (i32.add (local.get $to) (i32.const 32)))
        (br $next)))))
