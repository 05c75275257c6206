;; A node of the reduction tree: target = left + right, flushed (DESIGN section 3).

;; Flushes `bytes` (a multiple of 16) in place. 1 if all of them are finite, else 0.
(func (export "flush") (param $at i32) (param $bytes i32) (result i32)
  (local $end i32) (local $x v128) (local $size v128) (local $largest v128)
  (local.set $end (i32.add (local.get $at) (local.get $bytes)))
  (loop $next
    (if (i32.lt_u (local.get $at) (local.get $end))
      (then
        (local.set $x (v128.load (local.get $at)))
        ;; As integers, sizes lie in order: the infinite above all finite ones, NaNs above that.
        (local.set $size
          (v128.and (local.get $x) (v128.const i32x4 0x7fffffff 0x7fffffff 0x7fffffff 0x7fffffff)))
        (local.set $largest (i32x4.max_s (local.get $largest) (local.get $size)))
        (v128.store (local.get $at)
          (v128.andnot (local.get $x)
            (i32x4.lt_s (local.get $size) (v128.const i32x4 0x00800000 0x00800000 0x00800000 0x00800000))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br $next))))
  (i32x4.all_true
    (i32x4.lt_s (local.get $largest) (v128.const i32x4 0x7f800000 0x7f800000 0x7f800000 0x7f800000))))

;; left += right over `bytes` (a multiple of 16). A sum that is not a number becomes the one quiet
;; NaN 0x7fc00000: which NaN an addition gives is left open by IEEE 754 and by WebAssembly.
(func (export "addFlush") (param $left i32) (param $right i32) (param $bytes i32)
  (local $end i32) (local $sum v128)
  (local.set $end (i32.add (local.get $left) (local.get $bytes)))
  (loop $next
    (if (i32.lt_u (local.get $left) (local.get $end))
      (then
        (local.set $sum (f32x4.add (v128.load (local.get $left)) (v128.load (local.get $right))))
        (v128.store (local.get $left)
          (v128.bitselect
            (v128.andnot (local.get $sum)
              (i32x4.lt_s
                (v128.and (local.get $sum) (v128.const i32x4 0x7fffffff 0x7fffffff 0x7fffffff 0x7fffffff))
                (v128.const i32x4 0x00800000 0x00800000 0x00800000 0x00800000)))
            (v128.const i32x4 0x7fc00000 0x7fc00000 0x7fc00000 0x7fc00000)
            (f32x4.eq (local.get $sum) (local.get $sum))))
        (local.set $left (i32.add (local.get $left) (i32.const 16)))
        (local.set $right (i32.add (local.get $right) (i32.const 16)))
        (br $next)))))

;; The two again, with each result rounded to bfloat16: the nearest float32 whose lower 16 bits are zero,
;; of two equally near the one whose upper half is even; beyond the largest, infinity. With u the lowest
;; bit that stays:  rounded = (x + 0x7fff + u) & 0xffff0000  on the bits, which carries into the exponent.

;; Flushes and rounds `bytes` (a multiple of 16) in place; any NaN becomes 0x7fc00000. 1 if all are finite then, else 0.
(func (export "flushBfloat16") (param $at i32) (param $bytes i32) (result i32)
  (local $end i32) (local $x v128) (local $y v128) (local $largest v128)
  (local.set $end (i32.add (local.get $at) (local.get $bytes)))
  (loop $next
    (if (i32.lt_u (local.get $at) (local.get $end))
      (then
        (local.set $x (v128.load (local.get $at)))
        (local.set $y
          (v128.andnot (local.get $x)
            (i32x4.lt_s
              (v128.and (local.get $x) (v128.const i32x4 0x7fffffff 0x7fffffff 0x7fffffff 0x7fffffff))
              (v128.const i32x4 0x00800000 0x00800000 0x00800000 0x00800000))))
        (local.set $y
          (v128.bitselect
            (v128.and
              (i32x4.add
                (i32x4.add (local.get $y) (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff))
                (v128.and (i32x4.shr_u (local.get $y) (i32.const 16)) (v128.const i32x4 1 1 1 1)))
              (v128.const i32x4 0xffff0000 0xffff0000 0xffff0000 0xffff0000))
            (v128.const i32x4 0x7fc00000 0x7fc00000 0x7fc00000 0x7fc00000)
            (f32x4.eq (local.get $x) (local.get $x))))
        (local.set $largest
          (i32x4.max_s
            (local.get $largest)
            (v128.and (local.get $y) (v128.const i32x4 0x7fffffff 0x7fffffff 0x7fffffff 0x7fffffff))))
        (v128.store (local.get $at) (local.get $y))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br $next))))
  (i32x4.all_true
    (i32x4.lt_s (local.get $largest) (v128.const i32x4 0x7f800000 0x7f800000 0x7f800000 0x7f800000))))

;; As addFlush.
(func (export "addFlushBfloat16") (param $left i32) (param $right i32) (param $bytes i32)
  (local $end i32) (local $sum v128) (local $y v128)
  (local.set $end (i32.add (local.get $left) (local.get $bytes)))
  (loop $next
    (if (i32.lt_u (local.get $left) (local.get $end))
      (then
        (local.set $sum (f32x4.add (v128.load (local.get $left)) (v128.load (local.get $right))))
        (local.set $y
          (v128.andnot (local.get $sum)
            (i32x4.lt_s
              (v128.and (local.get $sum) (v128.const i32x4 0x7fffffff 0x7fffffff 0x7fffffff 0x7fffffff))
              (v128.const i32x4 0x00800000 0x00800000 0x00800000 0x00800000))))
        (v128.store (local.get $left)
          (v128.bitselect
            (v128.and
              (i32x4.add
                (i32x4.add (local.get $y) (v128.const i32x4 0x7fff 0x7fff 0x7fff 0x7fff))
                (v128.and (i32x4.shr_u (local.get $y) (i32.const 16)) (v128.const i32x4 1 1 1 1)))
              (v128.const i32x4 0xffff0000 0xffff0000 0xffff0000 0xffff0000))
            (v128.const i32x4 0x7fc00000 0x7fc00000 0x7fc00000 0x7fc00000)
            (f32x4.eq (local.get $sum) (local.get $sum))))
        (local.set $left (i32.add (local.get $left) (i32.const 16)))
        (local.set $right (i32.add (local.get $right) (i32.const 16)))
        (br $next)))))
