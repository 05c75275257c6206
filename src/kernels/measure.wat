;; Digest and sum of squares of one block in one pass: the same results as digest.wat and norm.wat, whose
;; multiplications keep different units of the processor busy.

;; As `digest`; the sum of squares is left in the eight bytes at `sumAt`.
(func (export "measure") (param $at i32) (param $bytes i32) (param $floats i32) (param $sumAt i32) (result i64)
  (local $end i32)
  (local $lane0 i64) (local $lane1 i64) (local $lane2 i64) (local $lane3 i64) (local $hash i64)
  (local $x v128) (local $y v128)
  (local $sum01 v128) (local $sum23 v128) (local $sum45 v128) (local $sum67 v128)
  (local.set $end (i32.add (local.get $at) (local.get $bytes)))
  (local.set $lane0 (i64.const 0x243f6a8885a308d3)) ;; the digits of pi
  (local.set $lane1 (i64.const 0x13198a2e03707344))
  (local.set $lane2 (i64.const 0xa4093822299f31d0))
  (local.set $lane3 (i64.const 0x082efa98ec4e6c89))
  (loop $next
    (if (i32.lt_u (local.get $at) (local.get $end))
      (then
        (local.set $lane0
          (i64.mul
            (i64.rotl
              (i64.add (local.get $lane0)
                (i64.mul (i64.load offset=0 (local.get $at)) (i64.const 0xbf58476d1ce4e5b9)))
              (i64.const 31))
            (i64.const 0x9e3779b97f4a7c15)))
        (local.set $lane1
          (i64.mul
            (i64.rotl
              (i64.add (local.get $lane1)
                (i64.mul (i64.load offset=8 (local.get $at)) (i64.const 0xbf58476d1ce4e5b9)))
              (i64.const 31))
            (i64.const 0x9e3779b97f4a7c15)))
        (local.set $lane2
          (i64.mul
            (i64.rotl
              (i64.add (local.get $lane2)
                (i64.mul (i64.load offset=16 (local.get $at)) (i64.const 0xbf58476d1ce4e5b9)))
              (i64.const 31))
            (i64.const 0x9e3779b97f4a7c15)))
        (local.set $lane3
          (i64.mul
            (i64.rotl
              (i64.add (local.get $lane3)
                (i64.mul (i64.load offset=24 (local.get $at)) (i64.const 0xbf58476d1ce4e5b9)))
              (i64.const 31))
            (i64.const 0x9e3779b97f4a7c15)))
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
  (f64.store (local.get $sumAt)
    (f64.add (f64x2.extract_lane 0 (local.get $x)) (f64x2.extract_lane 1 (local.get $x))))

  ;; hash = rotl(hash ^ lane, 29) * golden, from the length on, lane by lane
  (local.set $hash
    (i64.mul (i64.extend_i32_u (local.get $floats)) (i64.const 0x94d049bb133111eb)))
  (local.set $hash
    (i64.mul (i64.rotl (i64.xor (local.get $hash) (local.get $lane0)) (i64.const 29))
      (i64.const 0x9e3779b97f4a7c15)))
  (local.set $hash
    (i64.mul (i64.rotl (i64.xor (local.get $hash) (local.get $lane1)) (i64.const 29))
      (i64.const 0x9e3779b97f4a7c15)))
  (local.set $hash
    (i64.mul (i64.rotl (i64.xor (local.get $hash) (local.get $lane2)) (i64.const 29))
      (i64.const 0x9e3779b97f4a7c15)))
  (local.set $hash
    (i64.mul (i64.rotl (i64.xor (local.get $hash) (local.get $lane3)) (i64.const 29))
      (i64.const 0x9e3779b97f4a7c15)))

  (local.set $hash
    (i64.mul (i64.xor (local.get $hash) (i64.shr_u (local.get $hash) (i64.const 30)))
      (i64.const 0xbf58476d1ce4e5b9)))
  (local.set $hash
    (i64.mul (i64.xor (local.get $hash) (i64.shr_u (local.get $hash) (i64.const 27)))
      (i64.const 0x94d049bb133111eb)))
  (i64.xor (local.get $hash) (i64.shr_u (local.get $hash) (i64.const 31))))
