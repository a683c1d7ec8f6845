package kpdetect

import kotlin.test.Test

class GoldenTest {
    @Test
    fun `numbers equal those of Python`() {
        println(Golden.check(checkNotNull(javaClass.getResource("/golden.json")).readText()))
    }
}
