;; Dropout masks from Philox4x32-10 (Salmon et al., SC 2011; scalar twin: base/philox.ts).
;;
;; Counter word 0 is the position. Four blocks run side by side, one in each 32-bit lane, and give 32
;; elements: block b rules the elements 8b .. 8b+7 by the 16-bit halves of its words 0 .. 3, low half
;; first. An element is dropped (+0) when its half is below the threshold and `kept` otherwise.

;; Eight elements at `at` from one block's words.
(func $storeBlock (param $at i32) (param $words v128) (param $threshold v128) (param $kept v128)
  (local $keep v128)
  (local.set $keep (i16x8.ge_u (local.get $words) (local.get $threshold)))
  (v128.store offset=0 (local.get $at)
    (v128.and (i32x4.extend_low_i16x8_s (local.get $keep)) (local.get $kept)))
  (v128.store offset=16 (local.get $at)
    (v128.and (i32x4.extend_high_i16x8_s (local.get $keep)) (local.get $kept))))

;; Fills `bytes` (a multiple of 128) from block `position` on.
(func (export "dropoutMask")
  (param $at i32) (param $bytes i32) (param $position i32)
  (param $word1 i32) (param $word2 i32) (param $word3 i32) (param $key0 i32) (param $key1 i32)
  (param $threshold i32) (param $kept f32)
  (local $end i32) (local $round i32) (local $k0 i32) (local $k1 i32)
  (local $c0 v128) (local $c1 v128) (local $c2 v128) (local $c3 v128)
  (local $product0 v128) (local $product1 v128) (local $product2 v128) (local $product3 v128)
  (local $thresholds v128) (local $keeps v128)
  (local.set $thresholds (i16x8.splat (local.get $threshold)))
  (local.set $keeps (f32x4.splat (local.get $kept)))
  (local.set $end (i32.add (local.get $at) (local.get $bytes)))
  (loop $next
    (if (i32.lt_u (local.get $at) (local.get $end))
      (then
        (local.set $c0 (i32x4.add (i32x4.splat (local.get $position)) (v128.const i32x4 0 1 2 3)))
        (local.set $c1 (i32x4.splat (local.get $word1)))
        (local.set $c2 (i32x4.splat (local.get $word2)))
        (local.set $c3 (i32x4.splat (local.get $word3)))
        (local.set $k0 (local.get $key0))
        (local.set $k1 (local.get $key1))
        (local.set $round (i32.const 10))
        (loop $nextRound
          ;; 64-bit products of words 0 and 2, two blocks to a vector
          (local.set $product0
            (i64x2.extmul_low_i32x4_u (local.get $c0)
              (v128.const i32x4 0xd2511f53 0xd2511f53 0xd2511f53 0xd2511f53)))
          (local.set $product1
            (i64x2.extmul_high_i32x4_u (local.get $c0)
              (v128.const i32x4 0xd2511f53 0xd2511f53 0xd2511f53 0xd2511f53)))
          (local.set $product2
            (i64x2.extmul_low_i32x4_u (local.get $c2)
              (v128.const i32x4 0xcd9e8d57 0xcd9e8d57 0xcd9e8d57 0xcd9e8d57)))
          (local.set $product3
            (i64x2.extmul_high_i32x4_u (local.get $c2)
              (v128.const i32x4 0xcd9e8d57 0xcd9e8d57 0xcd9e8d57 0xcd9e8d57)))
          ;; c0 = high(product of c2) ^ c1 ^ k0, c1 = its low; c2 = high(product of c0) ^ c3 ^ k1, c3 = its low
          (local.set $c0
            (v128.xor
              (v128.xor
                (i8x16.shuffle 4 5 6 7 12 13 14 15 20 21 22 23 28 29 30 31
                  (local.get $product2) (local.get $product3))
                (local.get $c1))
              (i32x4.splat (local.get $k0))))
          (local.set $c1
            (i8x16.shuffle 0 1 2 3 8 9 10 11 16 17 18 19 24 25 26 27
              (local.get $product2) (local.get $product3)))
          (local.set $c2
            (v128.xor
              (v128.xor
                (i8x16.shuffle 4 5 6 7 12 13 14 15 20 21 22 23 28 29 30 31
                  (local.get $product0) (local.get $product1))
                (local.get $c3))
              (i32x4.splat (local.get $k1))))
          (local.set $c3
            (i8x16.shuffle 0 1 2 3 8 9 10 11 16 17 18 19 24 25 26 27
              (local.get $product0) (local.get $product1)))
          (local.set $k0 (i32.add (local.get $k0) (i32.const 0x9e3779b9)))
          (local.set $k1 (i32.add (local.get $k1) (i32.const 0xbb67ae85)))
          (br_if $nextRound (local.tee $round (i32.sub (local.get $round) (i32.const 1)))))

        ;; Transpose: from one word of four blocks to four words of one block.
        (local.set $product0 ;; c0[0] c1[0] c0[1] c1[1]
          (i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23 (local.get $c0) (local.get $c1)))
        (local.set $product1 ;; c0[2] c1[2] c0[3] c1[3]
          (i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31 (local.get $c0) (local.get $c1)))
        (local.set $product2
          (i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23 (local.get $c2) (local.get $c3)))
        (local.set $product3
          (i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31 (local.get $c2) (local.get $c3)))
        (call $storeBlock (local.get $at)
          (i8x16.shuffle 0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 23
            (local.get $product0) (local.get $product2))
          (local.get $thresholds) (local.get $keeps))
        (call $storeBlock (i32.add (local.get $at) (i32.const 32))
          (i8x16.shuffle 8 9 10 11 12 13 14 15 24 25 26 27 28 29 30 31
            (local.get $product0) (local.get $product2))
          (local.get $thresholds) (local.get $keeps))
        (call $storeBlock (i32.add (local.get $at) (i32.const 64))
          (i8x16.shuffle 0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 23
            (local.get $product1) (local.get $product3))
          (local.get $thresholds) (local.get $keeps))
        (call $storeBlock (i32.add (local.get $at) (i32.const 96))
          (i8x16.shuffle 8 9 10 11 12 13 14 15 24 25 26 27 28 29 30 31
            (local.get $product1) (local.get $product3))
          (local.get $thresholds) (local.get $keeps))
        (local.set $at (i32.add (local.get $at) (i32.const 128)))
        (local.set $position (i32.add (local.get $position) (i32.const 4)))
        (br $next)))))
