package %package

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Test
import org.junit.runner.RunWith

@RunWith(AndroidJUnit4::class)
class SelfTest {
    private val assets = InstrumentationRegistry.getInstrumentation().context.assets // the test's, not the app's

    private fun read(name: String) = assets.open("selftest/$name").use { it.readBytes() }

    @Test
    fun agreesWithTheDesktop() {
        val app = InstrumentationRegistry.getInstrumentation().targetContext
        val expected = JSONObject(String(read("expected.json")))
        // MediaPipeClassifier(app, thresholds = null, maxResults = %classes) the same way.
        LiteRtClassifier(app, thresholds = null, origin = 0f).use { classifier ->
            for (image in expected.keys()) {
                val probabilities = expected.getJSONObject(image)
                val labels = classifier.classify(read("images/$image"), maxResults = %classes)
                assertEquals(image, probabilities.length(), labels.size)
                for (label in labels) {
                    val probability = probabilities.getDouble(label.name)
                    assertEquals("$image, ${label.name}", probability, label.probability.toDouble(), %tolerance)
                }
            }
        }
    }
}
