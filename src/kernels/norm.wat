;; The sum of squares of one block, in float64. The square of a float32 is exact there; the order of
;; the additions is fixed: lane j of eight takes the elements i = j (mod 8) in rising i from +0, then
;;   ((lane0 + lane2) + (lane4 + lane6)) + ((lane1 + lane3) + (lane5 + lane7)).
;; An infinite or NaN element gives an infinite or NaN sum.

;; `bytes` is a multiple of 32, zeroed beyond the block.
(func (export "sumOfSquares") (param $at i32) (param $bytes i32) (result f64)
  (local $end i32) (local $x v128) (local $y v128)
  (local $sum01 v128) (local $sum23 v128) (local $sum45 v128) (local $sum67 v128)
  (local.set $end (i32.add (local.get $at) (local.get $bytes)))
  (loop $next
    (if (i32.lt_u (local.get $at) (local.get $end))
      (then
        (local.set $x (v128.load offset=0 (local.get $at)))
        (local.set $y (f64x2.promote_low_f32x4 (local.get $x)))
        (local.set $sum01 (f64x2.add (local.get $sum01) (f64x2.mul (local.get $y) (local.get $y))))
        (local.set $y
          (f64x2.promote_low_f32x4
            (i8x16.shuffle 8 9 10 11 12 13 14 15 8 9 10 11 12 13 14 15 (local.get $x) (local.get $x))))
        (local.set $sum23 (f64x2.add (local.get $sum23) (f64x2.mul (local.get $y) (local.get $y))))
        (local.set $x (v128.load offset=16 (local.get $at)))
        (local.set $y (f64x2.promote_low_f32x4 (local.get $x)))
        (local.set $sum45 (f64x2.add (local.get $sum45) (f64x2.mul (local.get $y) (local.get $y))))
        (local.set $y
          (f64x2.promote_low_f32x4
            (i8x16.shuffle 8 9 10 11 12 13 14 15 8 9 10 11 12 13 14 15 (local.get $x) (local.get $x))))
        (local.set $sum67 (f64x2.add (local.get $sum67) (f64x2.mul (local.get $y) (local.get $y))))
        (local.set $at (i32.add (local.get $at) (i32.const 32)))
        (br $next))))
  (local.set $x
    (f64x2.add
      (f64x2.add (local.get $sum01) (local.get $sum23))
      (f64x2.add (local.get $sum45) (local.get $sum67))))
  (f64.add (f64x2.extract_lane 0 (local.get $x)) (f64x2.extract_lane 1 (local.get $x))))
