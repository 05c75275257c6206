;; The digest of one block, over its exact bits: four lanes of 64-bit multiply and rotate in the
;; manner of xxHash (Collet), folded one after the other and finished by SplitMix64's mixer (Steele,
;; Lea and Flood, OOPSLA 2014). Not cryptographic.
;;
;; Every operation is a bijection of the lane, for fixed other inputs (add, xor, rotate, multiply by
;; an odd number), so two blocks that differ within one 64-bit word never share a digest.

;; `bytes` is a multiple of 32, zeroed beyond the block's `floats`; the length enters by `floats`.
(func (export "digest") (param $at i32) (param $bytes i32) (param $floats i32) (result i64)
  (local $end i32)
  (local $lane0 i64) (local $lane1 i64) (local $lane2 i64) (local $lane3 i64) (local $hash i64)
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
        (local.set $at (i32.add (local.get $at) (i32.const 32)))
        (br $next))))

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
